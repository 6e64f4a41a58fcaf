"""Turn the metrics of the recipe for few labels into tables and a curve, beside the published study and the peers.

``metrics/few_labels.csv`` has a line for every run; the tables of the project's README and of the recipe's own page,
and the plot, are made of it.
"""

import json
from pathlib import Path

import pandas as pd
import yaml
from matplotlib.figure import Figure

from few_labels.artifacts import replacing
from study.few_labels import ABLATIONS, PROJECT, RESULTS, WITHOUT
from study.tabulate import finish, half_width
from tools.pages import format_markdown, write_table
from tools.recipes import ALL_LABELS

ALL_LABELS_NETWORK = 0.8968
PEERS = {
    "LabelSpreading": "scikit-learn LabelSpreading",
    "SelfTrainingClassifier": "scikit-learn SelfTrainingClassifier",
    "laplace": "GraphLearning laplace",
    "poisson": "GraphLearning poisson",
}
COLUMNS = ["variant", "labels", "seed", "nn", "logreg", "propagation"]


def main() -> None:
    lines = list_runs(RESULTS)
    peers = list_peers(RESULTS / "peers")
    published = published_best(yaml.safe_load((PROJECT / "study" / "rows.yaml").read_text())["rows"])
    for path, table in (
        (PROJECT / "metrics" / "few_labels.csv", lines),
        (PROJECT / "metrics" / "few_labels_peers.csv", peers),
    ):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
    with replacing(PROJECT / "study" / "plots" / "few_labels.png") as temporary:
        draw_curve(lines, peers, published).savefig(temporary, metadata={"Software": None})
    write_table(PROJECT / "README.md", "few-labels", format_budgets(beside_published(lines, published), published))
    page = PROJECT / "study" / "few_labels" / "README.md"
    write_table(page, "budgets", format_budgets(lines, published))
    write_table(page, "peers", format_peers(lines, peers))
    write_table(page, "ablation", format_ablation(lines))


def list_runs(folder: Path) -> pd.DataFrame:
    """Read the metrics of every run, ``<variant>/<labels>_<seed>.json``.

    Returns
    -------
    DataFrame
        ``variant,labels,seed``, the test accuracies ``nn`` and ``logreg``, and ``propagation``, the share of spread
        labels that are right; all in 0-1.
    """
    lines = []
    for variant in ("recipe", *(f"without_{name}" for name in WITHOUT)):
        for path in folder.glob(f"{variant}/*.json"):
            n_labels, seed = map(int, path.stem.split("_"))
            metrics = json.loads(path.read_text())
            accuracies = metrics["nn"]["accuracy"], metrics["logreg"]["accuracy"], metrics["propagation"]["accuracy"]
            lines.append((variant, n_labels, seed, *accuracies))
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values(["variant", "labels", "seed"], kind="stable", ignore_index=True)


def list_peers(folder: Path) -> pd.DataFrame:
    """Read the peers' test accuracies in 0-1: ``labels,seed`` and a column for each."""
    lines = []
    for path in folder.glob("*.json"):
        n_labels, seed = map(int, path.stem.split("_"))
        lines.append({"labels": n_labels, "seed": seed} | json.loads(path.read_text()))
    table = pd.DataFrame(lines, columns=["labels", "seed", *PEERS])
    return table.sort_values(["labels", "seed"], ignore_index=True)


def published_best(rows: dict) -> pd.Series:
    """Give the best published accuracy at each number of labels."""
    published = pd.DataFrame(rows.values())
    return published.groupby("labels")["published"].max()


def describe(accuracies: pd.Series) -> str:
    """Write mean and 95 % interval in percent, and what is known of a single run: its accuracy."""
    if len(accuracies) == 0:
        return ""
    if len(accuracies) == 1:
        return f"{100 * accuracies.mean():.2f}"
    half = half_width(accuracies.std(), len(accuracies))
    return f"{100 * accuracies.mean():.2f} ± {100 * half:.2f}"


def format_budgets(lines: pd.DataFrame, published: pd.Series) -> str:
    """Write a line for each budget: the recipe's accuracies over its seeds, beside the best published one."""
    header = [" labels bought", " seeds", "network, %", "logistic regression, %", "spread labels right, %"]
    recipe = lines[lines["variant"] == "recipe"]
    rows = [
        [
            f"{n_labels:,}",
            str(len(runs)),
            describe(runs["nn"]),
            describe(runs["logreg"]),
            describe(runs["propagation"].dropna()),
            f"{100 * published[n_labels]:.2f}" if n_labels in published else "",
        ]
        for n_labels, runs in recipe.groupby("labels")
    ]
    return format_markdown([*header, "published, best, %"], rows)


def beside_published(lines: pd.DataFrame, published: pd.Series) -> pd.DataFrame:
    """Keep the budgets that the published study has too, which are all that the front door shows."""
    return lines[lines["labels"].isin(published.dropna().index)]


def format_peers(lines: pd.DataFrame, peers: pd.DataFrame) -> str:
    """Write a line for each budget: ours and the peers', over the seeds that both have."""
    recipe = lines[lines["variant"] == "recipe"]
    both = peers.merge(recipe[["labels", "seed", "nn"]], on=["labels", "seed"])
    rows = [
        [f"{n_labels:,}", str(len(runs)), describe(runs["nn"]), *(describe(runs[peer]) for peer in PEERS)]
        for n_labels, runs in both.groupby("labels")
    ]
    return format_markdown([" labels bought", " seeds", "ours", *PEERS.values()], rows)


def format_ablation(lines: pd.DataFrame) -> str:
    """Write a line for each ingredient: accuracy without it, and what it is worth, seed by seed."""
    header = [
        " labels bought",
        "left out",
        "network, %",
        "what it is worth, points",
        " seeds",
        "spread labels right, %",
    ]
    rows = []
    for n_labels, names in ABLATIONS.items():
        at_budget = lines[lines["labels"] == n_labels]
        recipe = at_budget[at_budget["variant"] == "recipe"].set_index("seed")
        for name in ("nothing", *names):
            runs = at_budget[at_budget["variant"] == f"without_{name}"].set_index("seed") if name in names else recipe
            if len(runs):
                worth = (recipe["nn"] - runs["nn"]).dropna() if name in names else pd.Series(dtype=float)
                cells = [describe(runs["nn"]), describe(worth), str(len(runs)), describe(runs["propagation"].dropna())]
                rows.append([f"{n_labels:,}", name.replace("_", " "), *cells])
    return format_markdown(header, rows)


def draw_curve(lines: pd.DataFrame, peers: pd.DataFrame, published: pd.Series) -> Figure:
    """Draw test accuracy against labels bought: ours, the published study's best, the peers on the same labels."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    ours = lines[lines["variant"] == "recipe"].groupby("labels")["nn"].agg(["mean", "min", "max"])
    axes.plot(ours.index, 100 * ours["mean"], marker="o", lw=2.5, color="black", label="this project's recipe, network")
    axes.fill_between(ours.index, 100 * ours["min"], 100 * ours["max"], color="black", alpha=0.2, lw=0)
    for peer, name in PEERS.items():
        mean = peers.groupby("labels")[peer].mean()
        axes.plot(mean.index, 100 * mean, marker=".", lw=1, label=f"{name}, same labels and space")
    few = published[published.index < ALL_LABELS]
    axes.plot(few.index, 100 * few, marker="s", color="gray", label="published study, its best")
    axes.axhline(100 * ALL_LABELS_NETWORK, color="black", ls=":", label="published network, all 60,000 labels")
    axes.set_xscale("log")
    axes.set_xticks(list(ours.index), [f"{n:,}" for n in ours.index], rotation=45)
    axes.minorticks_off()
    finish(axes, "labels bought", "Accuracy against labels bought")
    axes.set_ylabel("test accuracy, %")
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
