"""Turn what the views of the labelling page came to into tables and a plot; ``make study`` ends with it."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from few_labels.artifacts import replacing
from study.labelling_views import BUDGETS, COSTS, RESULTS
from study.statistics import half_width
from study.tabulate import finish
from tools.pages import format_markdown, write_table

BASELINE = "query"
VIEWS = [
    BASELINE,
    "query by margin",
    *(f"grid, {cost}" for cost in COSTS),
    *(f"grid, then query by margin, {cost}" for cost in COSTS),
]
DRAWN: dict[str, dict[str, Any]] = {
    BASELINE: {"color": "C0"},
    "query by margin": {"color": "C0", "ls": "--"},
    "grid, cheap": {"color": "C2"},
    "grid, quarter": {"color": "C8"},
    "grid, half": {"color": "C5"},
    "grid, dear": {"color": "C1"},
    "grid, careful": {"color": "C3"},
    "grid, then query by margin, dear": {"color": "C1", "ls": "--"},
}


def main() -> None:
    results = read_results()
    with replacing(RESULTS / "decisions.png") as temporary:
        draw(results).savefig(temporary, metadata={"Software": None})
    for name, table in list_tables(results).items():
        write_table(RESULTS / "README.md", name, table)


def read_results() -> pd.DataFrame:
    """Read the rows of the table, with the cost of a grid in the name of its view, ordered by view."""
    results = pd.read_csv(RESULTS / "results.csv", keep_default_na=False)
    named = results["view"] + results["cost"].map(lambda cost: f", {cost}" if cost else "")
    return results.assign(view=pd.Categorical(named, VIEWS, ordered=True))


def list_tables(results: pd.DataFrame) -> dict[str, str]:
    """Give each table of the page by its name."""
    return {
        "accuracies": format_accuracies(results),
        "differences": format_differences(results),
        "settings": format_settings(results),
    }


def format_accuracies(results: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each view, and a column for each budget."""
    return pivot(results, "accuracy", "{:.2f}")


def format_differences(results: pd.DataFrame) -> str:
    """Write a Markdown table of how much better each view is than the query view, seed by seed."""
    keys = ["decisions", "seed"]
    baseline = results[results["view"] == BASELINE].set_index(keys)["accuracy"]
    others = results[results["view"] != BASELINE]
    difference = others["accuracy"].to_numpy() - baseline.loc[pd.MultiIndex.from_frame(others[keys])].to_numpy()
    return pivot(others.assign(difference=difference), "difference", "{:+.2f}")


def pivot(results: pd.DataFrame, value: str, pattern: str) -> str:
    """Write a Markdown table of means over seeds with their 95 % intervals, in percent."""
    rows = []
    for view, group in results.groupby("view", observed=True):
        seeds = (100 * group[group["decisions"] == n][value] for n in BUDGETS)
        cells = [f"{pattern.format(some.mean())} ± {half_width(some.std(), len(some)):.2f}" for some in seeds]
        rows.append([str(view), *cells])
    return format_markdown(["view", *(f" {n:,} decisions" for n in BUDGETS)], rows)


def format_settings(results: pd.DataFrame) -> str:
    """Write a Markdown table of what each view does, and of the labels that it bought, on average over seeds."""
    header = [" decisions", "view", " clusters", "a grid shows", " percentile", " labels", " trained on", " right, %"]
    rows = []
    for (n, view), group in results.groupby(["decisions", "view"], observed=True):
        first, mean = group.iloc[0], group[["labels", "trained_on", "right"]].mean()
        shown = f"{first['n_shown']} {first['shown']}" if first["grid_share"] else ""
        counts = [f"{mean['labels']:,.0f}", f"{mean['trained_on']:,.0f}", f"{100 * mean['right']:.1f}"]
        rows.append([f"{n:,}", str(view), f"{first['n_clusters']:,}", shown, f"{first['percentile']:.0f}", *counts])
    return format_markdown(header, rows)


def draw(results: pd.DataFrame) -> Figure:
    """Draw test accuracy against decisions, a curve a view."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for offset, (view, style) in enumerate(DRAWN.items()):
        groups = results[results["view"] == view].groupby("decisions")["accuracy"]
        mean, sd = 100 * groups.mean(), 100 * groups.std()
        # Side by side, or the intervals would hide each other.
        places = mean.index * 1.02 ** (offset - len(DRAWN) / 2)
        axes.errorbar(places, mean, half_width(sd, groups.size()), marker="o", capsize=3, label=view, **style)
    axes.set_xscale("log")
    axes.set_xticks(BUDGETS, [f"{n:,}" for n in BUDGETS])
    axes.minorticks_off()
    finish(axes, "decisions", "Logistic regression")
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


if __name__ == "__main__":
    main()
