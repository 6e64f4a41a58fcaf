"""Write what a run came to as one page that needs nothing else, alone or beside another revision.

``make report`` tells of the working tree; ``make report BASE=main`` sets it beside a branch or a commit, whose metrics
and plots git holds. The page loads no script, font or picture from anywhere, and follows the reader's light or dark.
"""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typer import Option

from app.standing import Point, read_records, trace_curve
from few_labels.artifacts import replacing
from few_labels.calibration import wilson_interval
from few_labels.errors import InputError, shorten
from few_labels.ledger import read_history
from stages import run
from tools.git import find_commit, git, list_changes, read_at
from tools.pr_report import count_confusions
from tools.recipes import flatten

TEMPLATE = Path(__file__).with_name("report.html")
EVALUATION = Path("metrics/plots/evaluation")
HISTORY = Path("metrics/plots/nn_history")
MODELS = {"nn": "network", "logreg": "logistic regression"}
SHEETS = {
    "bought_labels": "Images whose labels were bought",
    "least_sure": "The answers that are least sure",
    "suspects": "Given labels that the model contradicts, surest first",
}
# Of more classes a matrix is no longer read, and bars no longer fit on a screen.
MOST_CLASSES_OF_A_MATRIX = 20
MOST_BARS = 30
N_CONFUSIONS = 10
# Middle tones, which stand out from white paper and from black.
COLOURS = ["#3b82c4", "#d97a2b"]


@dataclass(frozen=True)
class Result:
    """What one revision came to.

    Attributes
    ----------
    name : str
        What it is called: a branch, a commit, or the working tree.
    provenance : dict of str to str
    metrics : dict
        By dotted name.
    parameters : dict
        By dotted name.
    tables : dict of str to DataFrame
        ``nn_confusion`` and the like; those that there are.
    sheets : dict of str to str
        PNG files as base64, by name; those that there are.
    """

    name: str
    provenance: dict[str, str]
    metrics: dict[str, Any]
    parameters: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    sheets: dict[str, str]


def main(
    report: Annotated[Path, Option(help="HTML file to write")],
    base: Annotated[str, Option(envvar="BASE", help="branch or commit to compare with")] = "",
) -> None:
    now = read_result("the working tree", read_here, describe_here())
    curve = read_curve(now.parameters["download.dataset"])
    results = [now]
    if base:
        commit = find_commit(base)
        results.append(read_result(base, lambda path: read_at(commit, path), describe_commit(commit)))
    with replacing(report) as temporary:
        temporary.write_text(render(results, curve), encoding="utf-8")
    print(f"wrote {report}")


def read_here(path: Path) -> bytes:
    """Give what a file of the working tree holds, nothing where it is not there."""
    return path.read_bytes() if path.exists() else b""


def describe_here() -> dict[str, str]:
    """Say what the working tree is."""
    return describe_commit("HEAD") | {"changed since": ", ".join(list_changes(Path())) or "nothing"}


def describe_commit(commit: str) -> dict[str, str]:
    """Say what a commit is."""
    return {"commit": git("log", "-1", "--format=%h, %cs: %s", commit).decode().strip()}


def read_result(name: str, read: Callable[[Path], bytes], provenance: dict[str, str]) -> Result:
    """Read what a revision came to.

    Parameters
    ----------
    name : str
    read : callable
        Takes a path, gives the content of the file, and nothing where there is none.
    provenance : dict of str to str

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If there are no metrics.
    """
    if not (metrics := read(Path("metrics/metrics.json"))):
        raise InputError(f"{name} has no metrics/metrics.json, so there is nothing to tell of: make repro")
    labelling = read(Path("metrics/labelling.json"))
    files = {f"{model}_{what}": f"{model}_{what}.csv" for model in MODELS for what in ("confusion", "reliability")}
    tables = {key: parse(content, ",") for key, file in files.items() if (content := read(EVALUATION / file))}
    for part in ("train", "eval"):
        if content := read(HISTORY / part / "accuracy.tsv"):
            tables[f"history_{part}"] = parse(content, "\t")
    sheets = {
        key: base64.b64encode(content).decode()
        for key in SHEETS
        if (content := read(Path("metrics/plots", f"{key}.png")))
    }
    lock = yaml.safe_load(read(Path("dvc.lock")) or b"{}") or {}
    code = {
        dep["path"]: dep["md5"]
        for stage in lock.get("stages", {}).values()
        for dep in stage.get("deps", [])
        if dep["path"].endswith(".py")
    }
    return Result(
        name,
        provenance | {"modules that made it": f"{len(code)}, by their hashes in dvc.lock"},
        flatten(json.loads(metrics)) | flatten(json.loads(labelling or b"{}")),
        flatten(yaml.safe_load(read(Path("params.yaml")))),
        tables,
        sheets,
    )


def parse(content: bytes, separator: str) -> pd.DataFrame:
    """Read a table; a class may be called what reads like a missing value."""
    return pd.read_csv(io.BytesIO(content), sep=separator, keep_default_na=False, na_values={"accuracy": [""]})


def read_curve(dataset: str) -> list[Point]:
    """Grade what people's answers about a data set had taught after each round on the page."""
    ledger = Path("labels", f"{dataset}.csv")
    records = read_records(Path("metrics/learning_curve", f"{dataset}.jsonl"))
    return trace_curve(records, read_history(ledger)[0]) if records and ledger.exists() else []


def render(results: list[Result], curve: list[Point]) -> str:
    """Write the page.

    Parameters
    ----------
    results : list of Result
        That of the working tree, and the one to compare it with, if any.
    curve : list of Point
        Accuracy against people's labels, where they gave any.

    Returns
    -------
    str
        HTML.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    now, *others = results
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        results=results,
        headline=[
            (label, [format_share(result.metrics.get(key)) for result in results])
            for key, label in HEADLINE
            if any(key in result.metrics for result in results)
        ],
        metrics=side_by_side([result.metrics for result in results]),
        parameters=side_by_side([result.parameters for result in results]),
        models=[describe_model(model, name, results) for model, name in MODELS.items()],
        history=draw(lambda axes: draw_history(axes, results)) if "history_eval" in now.tables else "",
        curve=draw(lambda axes: draw_curve(axes, curve)) if curve else "",
        sheets=[
            (title, [(r.name, r.sheets[key]) for r in results if key in r.sheets]) for key, title in SHEETS.items()
        ],
        compared=bool(others),
    )


HEADLINE = [
    ("nn.accuracy", "network, test images"),
    ("logreg.accuracy", "logistic regression, test images"),
    ("mean.accuracy", "both, by their mean, test images"),
    ("audit.accuracy", "the answer, audit images"),
    ("propagation.accuracy", "spread labels that are right"),
]


def format_share(share: float | None) -> str:
    """Write a share in percent, or a dash for none."""
    return "-" if share is None else f"{100 * share:.2f} %"


def side_by_side(values: list[dict[str, Any]]) -> list[tuple[str, list[Any], bool]]:
    """Give each name with its values in all results, and whether they differ."""
    names = dict.fromkeys(name for each in values for name in each)
    rows = [(name, [each.get(name) for each in values]) for name in names]
    return [(name, row, any(value != row[0] for value in row)) for name, row in rows]


def describe_model(model: str, name: str, results: list[Result]) -> dict[str, Any]:
    """Give the charts and the matrix of one model; without graded images there are none."""
    answers = [(r.name, r.tables[f"{model}_confusion"]) for r in results if f"{model}_confusion" in r.tables]
    answers = [(title, table) for title, table in answers if len(table)]
    trust = [(r.name, r.tables[f"{model}_reliability"]) for r in results if f"{model}_reliability" in r.tables]
    if not answers:
        return {"name": name, "graded": 0}
    by_class = [(title, grade_classes(table)) for title, table in answers]
    classes = sorted(set(answers[0][1]["actual"]) | set(answers[0][1]["predicted"]))
    counts = count_confusions(answers[0][1], classes)
    return {
        "name": name,
        "graded": len(answers[0][1]),
        "by_class": draw(lambda axes: draw_classes(axes, by_class), height=0.9 + 0.28 * min(len(counts), MOST_BARS)),
        "reliability": draw(lambda axes: draw_reliability(axes, trust)) if trust else "",
        "matrix": counts if len(counts) <= MOST_CLASSES_OF_A_MATRIX else None,
        "confusions": list_confusions(counts),
    }


def grade_classes(answers: pd.DataFrame) -> pd.DataFrame:
    """Give the accuracy of each class with its 95 % interval by Wilson, the weakest class first."""
    right = (answers["actual"] == answers["predicted"]).groupby(answers["actual"]).agg(["sum", "count"])
    right["accuracy"] = right["sum"] / right["count"]
    intervals = [wilson_interval(int(row["sum"]), int(row["count"])) for _, row in right.iterrows()]
    right[["low", "high"]] = intervals
    return right.sort_values("accuracy", kind="stable")


def list_confusions(counts: pd.DataFrame) -> list[tuple[str, str, int]]:
    """List the errors that are made most often: the class, the answer, and how often."""
    errors = [
        (str(actual), str(predicted), int(n))
        for actual, row in counts.iterrows()
        for predicted, n in row.items()
        if actual != predicted and n
    ]
    return sorted(errors, key=lambda error: -error[2])[:N_CONFUSIONS]


def draw(fill: Callable[[Axes], None], height: float = 3.6) -> Markup:
    """Draw a chart as SVG whose lines and words take the colour of the page's text."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "few-labels", "font.size": 10}):
        figure = Figure(figsize=(4.8, 0.85 * height), layout="constrained")
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        fill(axes)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    return Markup(svg[svg.index("<svg") :].replace("#000000", "currentColor"))


def draw_classes(axes: Axes, graded: list[tuple[str, pd.DataFrame]]) -> None:
    """Draw the accuracy of each class with its interval, the weakest at the top; of many classes the weakest."""
    order = list(graded[0][1].index[:MOST_BARS])
    for number, (title, table) in enumerate(graded):
        rows = table.reindex(order)
        at = np.arange(len(order)) + 0.22 * number
        error = 100 * np.array([rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]])
        axes.errorbar(100 * rows["accuracy"], at, xerr=error, fmt="o", capsize=2, color=COLOURS[number], label=title)
    axes.set_yticks(np.arange(len(order)), [shorten(str(name), 24) for name in order], parse_math=False)
    axes.invert_yaxis()
    fewer = f", the weakest {MOST_BARS} classes" if len(graded[0][1]) > MOST_BARS else ""
    axes.set_xlabel(f"right, % with 95 % interval{fewer}")
    name_lines(axes, len(graded))


def draw_reliability(axes: Axes, trust: list[tuple[str, pd.DataFrame]]) -> None:
    """Draw how often answers are right against how sure they are."""
    axes.plot([0, 100], [0, 100], ":", color="gray")
    for number, (title, table) in enumerate(trust):
        some = table[table["n"] > 0]
        confidence, accuracy = some["confidence"].astype(float), some["accuracy"].astype(float)
        axes.plot(100 * confidence, 100 * accuracy, "o-", color=COLOURS[number], label=title)
    axes.set(xlabel="confidence, %", ylabel="right, %")
    name_lines(axes, len(trust))


def draw_history(axes: Axes, results: list[Result]) -> None:
    """Draw the network's accuracy while it trained, on what it learned from and on what chose the best epoch."""
    for number, result in enumerate(results):
        for part, style in (("train", "--"), ("eval", "-")):
            if (table := result.tables.get(f"history_{part}")) is not None:
                what = "training images" if part == "train" else "validation images"
                label = what if len(results) == 1 else f"{what}, {shorten(result.name, 20)}"
                axes.plot(
                    table["step"] + 1, 100 * table["accuracy"].astype(float), style, color=COLOURS[number], label=label
                )
    axes.set(xlabel="epoch", ylabel="accuracy, %")
    name_lines(axes, 2)


def draw_curve(axes: Axes, curve: list[Point]) -> None:
    """Draw accuracy against labels, with its intervals."""
    accuracy = 100 * np.array([[point.accuracy, point.low, point.high] for point in curve]).T
    error = [accuracy[0] - accuracy[1], accuracy[2] - accuracy[0]]
    axes.errorbar([point.n_labels for point in curve], accuracy[0], yerr=error, fmt="o-", capsize=2, color=COLOURS[0])
    axes.set(xlabel="labels given by people", ylabel="right, % with 95 % interval")


def name_lines(axes: Axes, n: int) -> None:
    """Say which line is which, where there are several."""
    if n > 1:
        for text in axes.legend(fontsize=9, framealpha=0).get_texts():
            text.set_parse_math(False)


if __name__ == "__main__":
    run(main)
