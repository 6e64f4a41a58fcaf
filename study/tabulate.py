"""Turn the grades of the study's rows into its tables and plots: ``make study`` ends with it.

``metrics/study.csv`` has a line for every row and seed, ``metrics/study_summary.csv`` the mean of each row over its
seeds beside the published number, ``metrics/study_clusterings.csv`` the inertias, ``study/plots`` the plots and the
tables that they show. The tables in docs/study.md and in the study's README are written from the summary.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from few_labels.artifacts import replacing
from study.plan import RESULTS, read_results
from study.statistics import format_share, half_width
from tools.pages import format_markdown, write_table

PROJECT = Path(__file__).parent.parent
STUDY = PROJECT / "study"
METRICS = PROJECT / "metrics"
NAMES = {"logreg": "logistic regression", "nn": "network"}
CONTRASTS = [
    ("representatives", "random n"),
    ("representatives", "first n"),
    ("percentile 25", "representatives"),
    ("full propagation", "representatives"),
    ("full propagation", "percentile 25"),
]
KEYS = ["artifact", "model", "setting", "labels"]
COLUMNS = [
    *KEYS,
    "seed",
    "accuracy",
    "macro_f1",
    "propagation_accuracy",
    "trained_on",
    "restarts",
]
STRATEGIES = {
    "first n": "the first n",
    "random n": "n at random",
    "representatives": "n representatives",
    "percentile 25": "spread over the nearest quarter",
    "full propagation": "spread over whole clusters",
}


def main() -> None:
    published = yaml.safe_load((STUDY / "rows.yaml").read_text())
    results = read_results(RESULTS)
    rows = list_rows(results, published["rows"])
    summary = summarise(rows, published["rows"])
    clusterings = list_clusterings(results, published["published_inertia"])
    contrasts = list_contrasts(rows)
    percentiles = compare_percentiles(rows, results)
    overview = format_overview(summary)
    for path, table in (
        (METRICS / "study.csv", rows),
        (METRICS / "study_summary.csv", summary),
        (METRICS / "study_clusterings.csv", clusterings),
        (METRICS / "study_contrasts.csv", contrasts),
        (STUDY / "plots" / "percentile.csv", percentiles),
        *((STUDY / "plots" / f"labels_{model}.csv", by_labels(summary, model)) for model in NAMES),
    ):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
    for name, figure in (
        ("percentile", draw_percentiles(percentiles)),
        ("labels", draw_labels(summary)),
        ("propagation", draw_propagation(percentiles)),
    ):
        with replacing(STUDY / "plots" / f"{name}.png") as temporary:
            figure.savefig(temporary, metadata={"Software": None})
    write_table(PROJECT / "docs" / "study.md", "study", overview)
    for name, text in (
        ("rows", format_rows(summary)),
        ("contrasts", format_contrasts(contrasts)),
        ("percentile", format_choice(percentiles)),
        ("clusterings", format_clusterings(clusterings)),
    ):
        write_table(STUDY / "README.md", name, text)
    print(overview)


def name_rows(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Lay out the rows of rows.yaml, and after them the published network's on the same training sets.

    Returns
    -------
    DataFrame
        ``artifact,model,setting,labels,published``, the run whose grades they are, and under what key.
    """
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("artifact").reset_index()
    table["artifact"] = table["artifact"].map(lambda file: Path(file).stem)
    table["model"] = table["graded_as"] = table["model"].map(lambda file: Path(file).stem)
    of_networks = table[table["model"] == "nn"].drop_duplicates("run")
    run = "published_network_" + of_networks["run"]
    published = of_networks.assign(model="published network", artifact=run, run=run)
    return pd.concat([table, published], ignore_index=True)


def list_rows(results: dict[tuple[str, int], dict[str, Any]], rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Give every row that was graded a line for each seed.

    Parameters
    ----------
    results : dict
        As `read_results` gives them.
    rows : dict
        The rows of rows.yaml, by the file name of their model.

    Returns
    -------
    DataFrame
        ``artifact,model,setting,labels,seed,accuracy,macro_f1,propagation_accuracy,trained_on,restarts``; accuracies
        in 0-1.
    """
    lines = [
        row
        | {
            "seed": seed,
            "propagation_accuracy": result["metrics"]["propagation"]["accuracy"],
            "trained_on": result["metrics"]["labels"]["trained_on"],
        }
        | result["metrics"][row["graded_as"]]
        for row in name_rows(rows).to_dict("records")
        for (run, seed), result in results.items()
        if run == row["run"]
    ]
    return pd.DataFrame(lines, columns=COLUMNS).astype({"restarts": "Int64"})


def summarise(lines: pd.DataFrame, rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Average each row over its seeds and set it beside the published number.

    Parameters
    ----------
    lines : DataFrame
        As `list_rows` gives them.
    rows : dict

    Returns
    -------
    DataFrame
        ``mean``, ``sd`` (over seeds, of a sample) and the 95 % interval of the mean by Student's t, ``low`` to
        ``high``; the last three are empty for a single seed. ``difference`` is the mean less the published accuracy.
    """
    published = name_rows(rows).set_index("artifact")["published"].astype(float)
    groups = lines.groupby(KEYS, sort=False)
    summary = groups["accuracy"].agg(seeds="count", mean="mean", sd="std").reset_index()
    half = half_width(summary["sd"], summary["seeds"])
    summary["low"], summary["high"] = summary["mean"] - half, summary["mean"] + half
    summary["published"] = summary["artifact"].map(published)
    summary["difference"] = summary["mean"] - summary["published"]
    for column in ("macro_f1", "propagation_accuracy", "trained_on", "restarts"):
        summary[column] = groups[column].agg("sum" if column == "restarts" else "mean").to_numpy()
    return summary.round({"trained_on": 0}).round(6)


def list_contrasts(lines: pd.DataFrame) -> pd.DataFrame:
    """Subtract one setting's accuracy from another's, seed by seed.

    Parameters
    ----------
    lines : DataFrame
        As `list_rows` gives them.

    Returns
    -------
    DataFrame
        ``better,than,model,labels,seeds,difference`` and the 95 % interval of the mean difference by Student's t,
        ``low`` to ``high``: it holds up over the seeds where ``low`` is above 0.
    """
    once = lines[lines["model"].isin(NAMES)].drop_duplicates(["model", "setting", "labels", "seed"])
    accuracy = once.pivot(index=["model", "labels", "seed"], columns="setting", values="accuracy")
    table = []
    for better, than in CONTRASTS:
        if better in accuracy and than in accuracy:
            paired = (accuracy[better] - accuracy[than]).dropna().groupby(["model", "labels"])
            for (model, labels), differences in paired:
                half = half_width(differences.std(), len(differences))
                mean = differences.mean()
                table.append((better, than, model, labels, len(differences), mean, mean - half, mean + half))
    columns = ["better", "than", "model", "labels", "seeds", "difference", "low", "high"]
    return pd.DataFrame(table, columns=columns).round(6)


def list_clusterings(
    results: dict[tuple[str, int], dict[str, Any]], published_inertia: dict[int, float]
) -> pd.DataFrame:
    """List the inertia of every clustering beside the published one, and by what share it is above that."""
    clusterings = pd.DataFrame(
        [
            {"seed": seed, **result["clustering"]}
            for (run, seed), result in results.items()
            if run.startswith(("clusters_", "distances_")) and "clustering" in result
        ],
        columns=["n_clusters", "seed", "inertia"],
    )
    clusterings = clusterings.drop_duplicates(["n_clusters", "seed"]).sort_values(["n_clusters", "seed"])
    clusterings["published"] = clusterings["n_clusters"].map(published_inertia)
    clusterings["above"] = (clusterings["inertia"] / clusterings["published"] - 1).round(6)
    return clusterings


def compare_percentiles(lines: pd.DataFrame, results: dict[tuple[str, int], dict[str, Any]]) -> pd.DataFrame:
    """Set what the audit says of each percentile at the largest budget beside what the test set says.

    Returns
    -------
    DataFrame
        One line a percentile: mean test accuracies ``logreg`` and ``nn`` with the half widths of their 95 % intervals
        (``_half``), mean accuracies on audit images (``_audit``), and ``propagation_accuracy``.
    """
    largest = lines[lines["setting"] == "representatives"]["labels"].max()
    table = []
    for name in sorted({run for run, _ in results if run.startswith("audited_")}, key=percentile_of):
        percentile = percentile_of(name)
        setting = {0: "representatives", 100: "full propagation"}.get(percentile, f"percentile {percentile}")
        entry: dict[str, float] = {"percentile": percentile}
        of_setting = lines[(lines["setting"] == setting) & (lines["labels"] == largest)]
        for model in NAMES:
            accuracy = of_setting[of_setting["model"] == model].drop_duplicates("seed")["accuracy"]
            entry[model] = accuracy.mean()
            entry[f"{model}_half"] = half_width(accuracy.std(), len(accuracy))
            audits = [result["audit"][model] for (run, _), result in results.items() if run == name]
            entry[f"{model}_audit"] = float(np.mean(audits))
        entry["propagation_accuracy"] = of_setting["propagation_accuracy"].mean()
        table.append(entry)
    columns = ["percentile", *(f"{model}{part}" for model in NAMES for part in ("", "_half", "_audit"))]
    return pd.DataFrame(table, columns=[*columns, "propagation_accuracy"]).round(6)


def percentile_of(run: str) -> int:
    """Read the percentile off the name of a run."""
    return int(run.rpartition("_")[2])


def by_labels(summary: pd.DataFrame, model: str) -> pd.DataFrame:
    """Lay out one model's accuracy by labels bought: a column a strategy, and that of all labels beside them."""
    of_model = summary[summary["model"] == model].drop_duplicates(["setting", "labels"])
    table = of_model[of_model["setting"].isin(STRATEGIES)].pivot(index="labels", columns="setting", values="mean")
    table = table[[setting for setting in STRATEGIES if setting in table]]
    table["all labels"] = of_model.loc[of_model["setting"] == "all labels", "mean"].max()
    return table.reset_index()


def draw_percentiles(table: pd.DataFrame) -> Figure:
    """Draw test accuracy against the percentile, a panel a model, and mark what the audit picks."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (model, name) in zip(figure.subplots(1, 2, sharey=True), NAMES.items(), strict=True):
        axes.errorbar(
            table["percentile"],
            100 * table[model],
            100 * table[f"{model}_half"],
            marker="o",
            capsize=3,
            label="test set",
        )
        axes.plot(
            table["percentile"],
            100 * table[f"{model}_audit"],
            "--",
            marker=".",
            color="tab:gray",
            label="audit images",
        )
        if table[f"{model}_audit"].notna().any():
            picked = table[table["percentile"] == pick(table, model)]
            axes.plot(picked["percentile"], 100 * picked[model], "o", ms=12, mfc="none", mec="tab:red", label="picked")
        finish(axes, "percentile of the cluster that takes the label", name)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[0].legend(fontsize=9)
    return figure


def draw_labels(summary: pd.DataFrame) -> Figure:
    """Draw test accuracy against labels bought, a panel a model, a curve a strategy, and the line of all labels."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (model, name) in zip(figure.subplots(1, 2, sharey=True), NAMES.items(), strict=True):
        of_model = summary[summary["model"] == model].drop_duplicates(["setting", "labels"])
        for offset, (setting, label) in enumerate(STRATEGIES.items()):
            curve = of_model[of_model["setting"] == setting].sort_values("labels")
            axes.errorbar(
                # Side by side, or the intervals would hide each other.
                curve["labels"] * 1.02 ** (offset - 2),
                100 * curve["mean"],
                100 * (curve["high"] - curve["mean"]),
                marker="o",
                capsize=3,
                label=label,
            )
        for accuracy in of_model[of_model["setting"] == "all labels"]["mean"]:
            axes.axhline(100 * accuracy, color="black", ls=":", label="all 60,000 labels")
        axes.set_xscale("log")
        budgets = sorted(of_model[of_model["setting"].isin(STRATEGIES)]["labels"].unique())
        axes.set_xticks(budgets, [str(budget) for budget in budgets])
        axes.minorticks_off()
        finish(axes, "labels bought", name)
    figure.axes[0].set_ylabel("test accuracy, %")
    figure.axes[1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_propagation(table: pd.DataFrame) -> Figure:
    """Draw the share of spread labels that are right against the percentile."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    spread = table.dropna(subset=["propagation_accuracy"])
    axes.plot(spread["percentile"], 100 * spread["propagation_accuracy"], marker="o")
    finish(axes, "percentile of the cluster that takes the label", "spread labels that are right")
    axes.set_ylabel("%")
    return figure


def finish(axes: Axes, x_label: str, title: str) -> None:
    """Give a panel its labels and a light grid."""
    axes.set_xlabel(x_label)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def format_overview(summary: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each number of labels and setting, and both models side by side."""
    header = [" labels", "trained on", "logistic regression", "published", "network", "published"]
    chosen = summary[summary["model"].isin(NAMES)].drop_duplicates(["labels", "setting", "model"])
    lines = []
    for (labels, setting), rows in chosen.groupby(["labels", "setting"], sort=False):
        cells = [f"{labels:,}", str(setting)]
        for model in NAMES:
            of_model = rows[rows["model"] == model].to_dict("records")
            cells += [format_accuracy(of_model[0]), format_share(of_model[0]["published"])] if of_model else ["", ""]
        lines.append(cells)
    return format_markdown(header, lines)


def format_rows(summary: pd.DataFrame) -> str:
    """Write the summary as a Markdown table, a line a row."""
    header = ["row", " labels", "trained on", "accuracy, %", " published", " difference", " spread right, %"]
    lines = [
        [
            f"`{row['artifact']}`",
            f"{row['labels']:,}",
            row["setting"],
            format_accuracy(row),
            format_share(row["published"]),
            format_share(row["difference"], "+"),
            format_share(row["propagation_accuracy"]),
            "" if "logreg" in row["model"] else str(row["restarts"]),
        ]
        for row in summary.to_dict("records")
    ]
    return format_markdown([*header, " restarts"], lines)


def format_contrasts(contrasts: pd.DataFrame) -> str:
    """Write the differences as a Markdown table, and whether each holds up over the seeds."""
    lines = []
    for row in contrasts.to_dict("records"):
        verdict = "more" if row["low"] > 0 else "less" if row["high"] < 0 else "no difference shown"
        difference = f"{100 * row['difference']:+.2f} ± {100 * (row['high'] - row['difference']):.2f}"
        lines.append([row["better"], row["than"], NAMES[row["model"]], f"{row['labels']:,}", difference, verdict])
    return format_markdown(["this", "against this", "model", " labels", " difference, %", "it is"], lines)


def format_choice(percentiles: pd.DataFrame) -> str:
    """Write what audit images and the test set say of each percentile, and mark the one that is picked."""
    lines = []
    for row in percentiles.to_dict("records"):
        cells = [str(row["percentile"])]
        for model in NAMES:
            column = f"{model}_audit"
            picked = " (picked)" if row["percentile"] == pick(percentiles, model) else ""
            cells += [format_share(row[column]) + picked, format_share(row[model])]
        lines.append(cells)
    header = [" percentile"]
    for name in NAMES.values():
        header += [f"{name}: audit, %", " test, %"]
    return format_markdown(header, lines)


def pick(percentiles: pd.DataFrame, model: str) -> int:
    """Give the percentile with the best accuracy on audit images; of equals, the smallest."""
    return int(percentiles.sort_values(f"{model}_audit", ascending=False, kind="stable")["percentile"].iloc[0])


def format_clusterings(clusterings: pd.DataFrame) -> str:
    """Write the inertias as a Markdown table, the mean over seeds beside the published one."""
    lines = [
        [
            f"{n_clusters:,}",
            str(len(rows)),
            f"{rows['inertia'].mean():,.0f}",
            f"{rows['published'].iloc[0]:,.0f}" if rows["published"].notna().all() else "",
            format_share(rows["above"].mean(), "+"),
        ]
        for n_clusters, rows in clusterings.groupby("n_clusters")
    ]
    return format_markdown([" clusters", " seeds", " inertia", " published", " above it, %"], lines)


def format_accuracy(row: dict[Any, Any]) -> str:
    """Give a mean in percent and the half width of its 95 % interval, where there is one."""
    interval = f" ± {100 * (row['high'] - row['mean']):.2f}" if row["seeds"] > 1 else ""
    return f"{100 * row['mean']:.2f}{interval}"


if __name__ == "__main__":
    main()
