"""Turn the metrics of the recipe for few labels into tables and a curve, beside the published study and the peers.

``metrics/few_labels.csv`` has a line for every run; the tables of the project's README and of the recipe's own page,
and the plot, are made of it.
"""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from few_labels.artifacts import replacing
from study.plan import PROJECT, RESULTS, read_results
from study.statistics import format_mean
from study.tabulate import finish
from tools.pages import format_markdown, write_table
from tools.recipes import ALL_LABELS

PEERS = {
    "LabelSpreading": "scikit-learn LabelSpreading",
    "SelfTrainingClassifier": "scikit-learn SelfTrainingClassifier",
    "laplace": "GraphLearning laplace",
    "poisson": "GraphLearning poisson",
    "poisson_mbo": "GraphLearning poisson_mbo",
    "typiclust": "scikit-activeml TypiClust",
    "typiclust_and_margins": "scikit-activeml TypiClust, then margins",
}
PARTS = {
    "answer": "answer",
    "nn": "network",
    "logreg": "logistic regression",
    "propagation": "spread labels right",
}
COLUMNS = ["variant", "labels", "seed", *PARTS]


def main() -> None:
    results = read_results(RESULTS)
    lines, peers = list_runs(results), list_peers(results)
    published = published_best(yaml.safe_load((PROJECT / "study" / "rows.yaml").read_text())["rows"])
    for path, table in (
        (PROJECT / "metrics" / "few_labels.csv", lines),
        (PROJECT / "metrics" / "few_labels_peers.csv", peers),
    ):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
    with replacing(PROJECT / "study" / "plots" / "few_labels.png") as temporary:
        draw_curve(lines, peers, published).savefig(temporary, metadata={"Software": None})
    front_door = format_budgets(beside_published(lines, published), published, ["answer"])
    write_table(PROJECT / "README.md", "few-labels", front_door)
    page = PROJECT / "study" / "few_labels" / "README.md"
    write_table(page, "budgets", format_budgets(lines, published))
    write_table(page, "peers", format_peers(lines, peers))
    write_table(page, "ablation", format_ablation(lines))


def list_runs(
    results: dict[tuple[str, int], dict[str, Any]], variants: Sequence[str] = ("recipe", "without_*")
) -> pd.DataFrame:
    """Lay out the results of the recipe and of what is left out of it, or of others.

    Parameters
    ----------
    results : dict
        As `read_results` gives them.
    variants : sequence of str
        Names of runs without their budget, or patterns of them.

    Returns
    -------
    DataFrame
        ``variant,labels,seed``, the test accuracies ``answer``, ``nn`` and ``logreg``, and ``propagation``, the share
        of spread labels that are right; all in 0-1.
    """
    lines = []
    for (run, seed), result in results.items():
        variant, _, budget = run.rpartition("_")
        if any(fnmatch(variant, wanted) for wanted in variants):
            metrics = result["metrics"]
            parts = (metrics.get("answer", "nn"), "nn", "logreg", "propagation")
            accuracies = [metrics[part]["accuracy"] for part in parts]
            lines.append((variant, int(budget), seed, *accuracies))
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values(["variant", "labels", "seed"], kind="stable", ignore_index=True)


def list_peers(results: dict[tuple[str, int], dict[str, Any]], variant: str = "peers") -> pd.DataFrame:
    """Lay out the peers' test accuracies in 0-1: ``labels,seed`` and a column for each."""
    lines = [
        {"labels": int(run.rpartition("_")[2]), "seed": seed} | result["metrics"]
        for (run, seed), result in results.items()
        if run.rpartition("_")[0] == variant
    ]
    table = pd.DataFrame(lines, columns=["labels", "seed", *PEERS])
    return table.sort_values(["labels", "seed"], ignore_index=True)


def published_best(rows: dict) -> pd.Series:
    """Give the best published accuracy at each number of labels."""
    published = pd.DataFrame(rows.values())
    return published.groupby("labels")["published"].max()


def format_budgets(lines: pd.DataFrame, published: pd.Series, parts: Sequence[str] = tuple(PARTS)) -> str:
    """Write a line for each budget: the recipe's accuracies over its seeds, beside the best published one."""
    recipe = lines[lines["variant"] == "recipe"]
    rows = [
        [
            f"{n_labels:,}",
            str(len(runs)),
            *(format_mean(runs[part].dropna()) for part in parts),
            f"{100 * published[n_labels]:.2f}" if n_labels in published else "",
        ]
        for n_labels, runs in recipe.groupby("labels")
    ]
    header = [" labels bought", " seeds", *(f"{PARTS[part]}, %" for part in parts), "published, best, %"]
    return format_markdown(header, rows)


def beside_published(lines: pd.DataFrame, published: pd.Series) -> pd.DataFrame:
    """Keep the budgets that the published study has too, which are all that the front door shows."""
    return lines[lines["labels"].isin(published.dropna().index)]


def format_peers(lines: pd.DataFrame, peers: pd.DataFrame, variant: str = "recipe") -> str:
    """Write a line for each budget: ours and the peers', over the seeds that both have."""
    recipe = lines[lines["variant"] == variant]
    both = peers.merge(recipe[["labels", "seed", "answer"]], on=["labels", "seed"])
    rows = [
        [f"{n_labels:,}", str(len(runs)), format_mean(runs["answer"]), *(format_mean(runs[peer]) for peer in PEERS)]
        for n_labels, runs in both.groupby("labels")
    ]
    return format_markdown([" labels bought", " seeds", "ours", *PEERS.values()], rows)


def format_ablation(lines: pd.DataFrame) -> str:
    """Write a line for each ingredient: accuracy without it, and what it is worth, seed by seed."""
    header = [
        " labels bought",
        "left out",
        "answer, %",
        "what it is worth, points",
        " seeds",
        "spread labels right, %",
    ]
    rows = []
    for n_labels, at_budget in lines.groupby("labels", sort=False):
        variants = at_budget["variant"].unique()
        if len(variants) > 1:
            recipe = at_budget[at_budget["variant"] == "recipe"].set_index("seed")
            for variant in sorted(variants, key=lambda name: (name != "recipe", name)):
                runs = at_budget[at_budget["variant"] == variant].set_index("seed")
                worth = (recipe["answer"] - runs["answer"]).dropna() if variant != "recipe" else pd.Series(dtype=float)
                name = variant.removeprefix("without_").replace("_", " ") if variant != "recipe" else "nothing"
                right = format_mean(runs["propagation"].dropna())
                answer = format_mean(runs["answer"])
                rows.append([f"{n_labels:,}", name, answer, format_mean(worth), str(len(runs)), right])
    return format_markdown(header, rows)


def draw_curve(lines: pd.DataFrame, peers: pd.DataFrame, published: pd.Series) -> Figure:
    """Draw test accuracy against labels bought: ours, the published study's best, the peers on the same labels."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    ours = lines[lines["variant"] == "recipe"].groupby("labels")["answer"].agg(["mean", "min", "max"])
    axes.plot(ours.index, 100 * ours["mean"], marker="o", lw=2.5, color="black", label="this project's recipe")
    axes.fill_between(ours.index, 100 * ours["min"], 100 * ours["max"], color="black", alpha=0.2, lw=0)
    for peer, name in PEERS.items() if len(peers) else ():
        mean = peers.groupby("labels")[peer].mean()
        axes.plot(mean.index, 100 * mean, marker=".", lw=1, label=name)
    few = published[published.index < ALL_LABELS]
    axes.plot(few.index, 100 * few, marker="s", color="gray", label="published study, its best")
    axes.axhline(100 * published[ALL_LABELS], color="black", ls=":", label="published network, all 60,000 labels")
    axes.set_xscale("log")
    axes.set_xticks(list(ours.index), [f"{n:,}" for n in ours.index], rotation=45)
    axes.minorticks_off()
    finish(axes, "labels bought", "Accuracy against labels bought")
    axes.set_ylabel("test accuracy, %")
    figure.legend(fontsize=9, loc="outside lower center", ncols=2, title="the packages work in the recipe's space")
    return figure


if __name__ == "__main__":
    main()
