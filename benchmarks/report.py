"""What becomes of metrics/bench.csv: docs/speed.md's table, a bar chart of each comparison, and one of the growth."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.code import name_stale
from benchmarks.common import PROJECT
from few_labels.artifacts import replacing
from tools.pages import format_markdown, write_table

FOLDER = PROJECT / "metrics" / "plots"


def report(table: pd.DataFrame) -> None:
    """Write docs/speed.md's table, metrics/plots/bench.png and, where growth was measured, metrics/plots/scaling.png.

    Parameters
    ----------
    table : DataFrame
        Columns ``case,system,seconds,peak_mb,quality,code``.
    """
    scaling = table["case"].str.startswith("scaling-")
    for name, rows, draw_rows in (
        ("bench", table[~scaling], draw_comparisons),
        ("scaling", table[scaling], draw_scaling),
    ):
        if len(rows):
            with replacing(FOLDER / f"{name}.png") as temporary:
                draw_rows(rows).savefig(temporary, bbox_inches="tight", metadata={"Software": None})
    write_table(PROJECT / "docs" / "speed.md", "bench", format_ratios(table[~scaling]))


def format_ratios(table: pd.DataFrame) -> str:
    """Write the comparisons as a Markdown table, each system beside the first of its case.

    Parameters
    ----------
    table : DataFrame
        Columns ``case,system,seconds,peak_mb,quality,code``; imports are left out.

    Returns
    -------
    str
        After the table stands which of its cases were timed on older code.
    """
    lines = []
    for case, rows in table[table["case"] != "imports"].groupby("case", sort=False):
        systems = rows.to_dict("records")
        for position, row in enumerate(systems):
            stopped = "more than " if "stopped" in row["quality"] else ""
            ratio = f"{stopped}{row['seconds'] / systems[0]['seconds']:.3g}" if position else ""
            lines.append(
                [str(case), row["system"], f"{row['seconds']:.1f}", ratio, f"{row['peak_mb']:,.0f}", row["quality"]]
            )
    shown = format_markdown(["case", "system", " seconds", " times the first", " peak MB", "quality"], lines)
    hashes = dict(zip(table["case"], table["code"], strict=True))
    stale = [case for case in name_stale(hashes) if case != "imports"]
    return f"{shown}\n\nTimed on older code: {', '.join(stale)}." if stale else shown


def draw_comparisons(table: pd.DataFrame) -> Figure:
    """Draw the seconds of each system, a panel for each case; the first system of a case is the darker bar."""
    cases = list(table.groupby("case", sort=False))
    heights = [len(rows) + 1 for _, rows in cases]
    figure = Figure(figsize=(10, 0.33 * sum(heights)), layout="constrained")
    for axes, (case, rows) in zip(
        figure.subplots(len(cases), height_ratios=heights, squeeze=False)[:, 0], cases, strict=True
    ):
        bars = axes.barh(rows["system"], rows["seconds"], color=["tab:blue"] + ["lightsteelblue"] * (len(rows) - 1))
        labels = [f"{row.seconds:.4g} s, {row.peak_mb:.0f} MB, {row.quality}" for row in rows.itertuples()]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.6 * max(rows["seconds"].max(), 0.01)), xticks=[])
        axes.set_title(case, loc="left", fontsize=10)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.supxlabel("seconds, peak memory and quality; each panel has its own scale", fontsize=9)
    return figure


def draw_scaling(table: pd.DataFrame) -> Figure:
    """Draw seconds and peak memory over the number of images, a line for each stage and growth of k."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, column, label in zip(figure.subplots(1, 2), ("seconds", "peak_mb"), ("seconds", "peak MB"), strict=True):
        for case, rows in table.groupby("case", sort=False):
            style = "--" if str(case).endswith("k-growing") else "-"
            axes.plot(
                rows["system"].astype(int), rows[column], style, marker="o", label=str(case).removeprefix("scaling-")
            )
        axes.set(xscale="log", yscale="log", xlabel="images", ylabel=label)
        sizes = sorted(table["system"].astype(int).unique())
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_yticks([200, 500, 1000, 2000])
    axes.legend(fontsize=8)
    return figure
