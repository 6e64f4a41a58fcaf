"""Write what the working tree changes in results, against the commit where it left a base branch, as Markdown."""

import io
import json
import os
import re
import subprocess
import sys
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import yaml
from typer import Option

from few_labels.errors import InputError
from stages import run
from tools.git import find_commit, git, read_at, visible
from tools.pages import format_markdown

# Starts every report; by it the workflow finds the comment to update.
MARKER = "<!-- few-labels-metrics -->"
PLOTS = Path("metrics/plots/evaluation")
COLUMNS: dict[str, dict[str, type]] = {
    "class_accuracy": {"class": str, "accuracy": float},
    "confusion": {"actual": str, "predicted": str},
}
N_CLASSES_SHOWN = 3
N_MODELS_SHOWN = 10
N_CHARACTERS_SHOWN = 60  # of a value
N_BYTES = 65_000  # GitHub takes comments of up to 65,536 characters
N_CLASSES_OF_A_MATRIX = 90  # two matrices of more classes do not fit in that, at four characters a number
NO_CHANGE = "no change"

# What no Markdown, mention, reference or link can be made of: numbers, and words with one character between them.
PLAIN = re.compile(
    r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?|(?!.*(www\.|gh-\d|[0-9a-f]{7}))[+-]?[^\W_]+([ ./_-][^\W_]+)*", re.IGNORECASE
)
# Where links and mentions are found also in text that is written in entities.
LINKS = re.compile(r"(?=:)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes
    ----------
    title : str
    lines : list of str
        Markdown, of which the end is left out where the report becomes too long.
    source : str
        Where all of it is, as Markdown.
    """

    title: str
    lines: list[str]
    source: str


def main(
    base: Annotated[str, Option(envvar="BASE", help="branch or commit to compare with")],
    report: Annotated[Path, Option(help="Markdown file to write")],
) -> None:
    commit = find_commit(base)
    # Where the branch was left, so that what others did on it since does not show as undone here.
    start = git("rev-parse", "--short", git("merge-base", commit, "HEAD").decode().strip()).decode().strip()
    models = report_models((f"at {start}", list_plots_at(start)), ("in the working tree", list_plots()))
    ran_again = changed_stages(read_at(start, Path("dvc.lock")), Path("dvc.lock").read_bytes())
    sections = [
        Section("Metrics", tabulate_diff("metrics", start, dvc_diff("metrics", start)), f"`dvc metrics diff {start}`"),
        Section("Parameters", tabulate_diff("params", start, dvc_diff("params", start)), f"`dvc params diff {start}`"),
        Section("Stages that ran again", [f"- {shown(name)}" for name in ran_again] or [NO_CHANGE], "`dvc.lock`"),
        *models,
    ]
    report.write_text(fit(f"{MARKER}\n\n# Results, compared with {shown(base)} at {start}", sections), encoding="utf-8")
    print(f"wrote {report}")


def shown(value: object) -> str:
    """Write a value that anyone chose so that GitHub and GitLab show it as the text that it is.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
        Markdown in one line, also for a table's cell: the value itself where it is plain, else code. Cut where long.
    """
    text = visible(str(value))
    if len(text) > N_CHARACTERS_SHOWN:
        text = f"{text[: N_CHARACTERS_SHOWN - 1]}…"
    if PLAIN.fullmatch(text):
        return text
    # Entities keep Markdown and HTML out, <code> what is made of text later (mentions, references, emoji, formulas),
    # and a space of no width the links that are found in between.
    entities = (
        f"&#{ord(c)};" if c.isascii() and not c.isalnum() and c != " " else c for c in LINKS.sub("\u200b", text)
    )
    return f"<code>{''.join(entities)}</code>"


def size(text: str) -> int:
    """Count bytes, of which there are no fewer than characters by anyone's count."""
    return len(text.encode())


def fit(head: str, sections: list[Section]) -> str:
    """Join the sections of a report; their ends are left out where it would be too long for a comment."""
    parts, least = [head], [size(write_section(section, 0)) for section in sections]
    room = N_BYTES - size(head) - sum(least) - 2 * len(sections)
    for section, minimum in zip(sections, least, strict=True):
        parts.append(write_section(section, room + minimum))
        room += minimum - size(parts[-1])
    return "\n\n".join(parts) + "\n"


def write_section(section: Section, room: int) -> str:
    """Write a section in ``room`` bytes, or its title and where to look if that is more."""
    lines = [f"## {section.title}", "", *section.lines]
    ends = list(accumulate(size(line) + 1 for line in lines))
    if ends[-1] <= room:
        return "\n".join(lines)
    note = f"Cut to fit in a comment; see {section.source}."
    kept = max(bisect_right(ends, room - size(note) - 1), 2)
    return "\n".join([*lines[:kept], "", note])


def dvc_diff(what: str, start: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Let DVC say which metrics or params changed: for each file and name, what it was and is."""
    command = [sys.executable, "-m", "dvc", what, "diff", "--json", start]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise InputError(visible(f"dvc {what} diff: {' '.join(done.stderr.decode(errors='replace').split())}"))
    return json.loads(done.stdout)


def tabulate_diff(what: str, start: str, diff: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Tabulate what changed, as DVC does."""
    of_metrics = what == "metrics"
    values = ["old", "new", "diff"] if of_metrics else ["old", "new"]
    rows = [
        [shown(file), shown(name), *(write_value(change.get(value), of_metrics) for value in values)]
        for file, changes in diff.items()
        for name, change in sorted(changes.items())
    ]
    header = ["Path", what.removesuffix("s").capitalize(), start, "workspace", "Change"][: 2 + len(values)]
    return format_markdown(header, rows).splitlines() if rows else [NO_CHANGE]


def write_value(value: object, rounded: bool) -> str:
    """Write a metric or a parameter, or a dash for none."""
    if value is None:
        return "-"
    return shown(round(value, 5) if rounded and isinstance(value, float) else value)


def changed_stages(before: str | bytes, after: str | bytes) -> list[str]:
    """Name the stages whose entry differs between two dvc.lock files: what they read, did or wrote is another.

    Parameters
    ----------
    before, after : str or bytes
        The files' text, empty where there was none.

    Returns
    -------
    list of str
        In the order of ``after``; stages that are gone come last.

    Raises
    ------
    InputError
        If one is something else.
    """
    try:
        old, new = (dict((yaml.safe_load(text) or {}).get("stages", {})) for text in (before, after))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise InputError("dvc.lock: not what DVC writes, before or now") from error
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def report_models(was: tuple[str, dict[str, bytes]], now: tuple[str, dict[str, bytes]]) -> list[Section]:
    """Compare the answers of every model.

    Parameters
    ----------
    was, now : tuple of str and dict
        What each side is called, and its CSV files: names, and what they hold.

    Returns
    -------
    list of Section
        The classes that moved most of every model, then the confusion matrices of every model.
    """
    names, ends = {**was[1], **now[1]}, [f"_{what}.csv" for what in COLUMNS]
    models = sorted({name.removesuffix(end) for name in names for end in ends if name.endswith(end)})
    moved, matrices = [], []
    for model in models[:N_MODELS_SHOWN]:
        tables, answers = ([read_table(*side, model, what) for side in (was, now)] for what in COLUMNS)
        by_class, by_answer = (shown(PLOTS / f"{model}{end}") for end in ends)
        lines = report_class_accuracy(*tables)
        moved.append(Section(f"Classes whose accuracy moved most: {shown(model)}", lines, by_class))
        lines = report_confusion(answers[0], answers[1], list_classes(*tables), by_answer)
        matrices.append(Section(f"Confusion matrix: {shown(model)}", lines, by_answer))
    left = len(models[N_MODELS_SHOWN:])
    others = Section("Other models", [f"{left} more do not fit in a comment; see {PLOTS}."], str(PLOTS))
    return [*moved, *matrices, *([others] if left else [])]


def report_class_accuracy(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """Tabulate the classes whose accuracy moved most, in percent."""
    moved = moved_most(*(100 * table.set_index("class")["accuracy"] for table in (before, after)))
    rows = [
        [shown(name), *("-" if pd.isna(x) else f"{x:{sign}.1f}" for x, sign in zip(row, ("", "", "+"), strict=True))]
        for name, *row in moved.itertuples()
    ]
    return format_markdown(["class", " before", " after", " change"], rows).splitlines() if rows else [NO_CHANGE]


def moved_most(before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Pick the classes that moved most.

    Parameters
    ----------
    before, after : Series
        A number for each class.

    Returns
    -------
    DataFrame
        ``before``, ``after`` and ``change`` of at most three classes, the one that moved most first.
    """
    table = pd.DataFrame({"before": before, "after": after, "change": after - before})
    table = table[table["change"] != 0]
    return table.sort_values("change", key=abs, ascending=False, kind="stable").head(N_CLASSES_SHOWN)


def list_classes(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """Give the classes of both sides, in the order of the data set."""
    return list(dict.fromkeys([*after["class"], *before["class"]]))


def report_confusion(before: pd.DataFrame, after: pd.DataFrame, classes: list[str], source: str) -> list[str]:
    """Tabulate the confusion matrices of both sides, folded away, or say that they are the same or too large."""
    if before.value_counts().to_dict() == after.value_counts().to_dict():
        return [NO_CHANGE]
    if len(classes) > N_CLASSES_OF_A_MATRIX:
        return [f"Changed. The matrices of {len(classes)} classes do not fit in a comment; see {source}."]
    header = ["actual \\ predicted", *(f" {shown(name)}" for name in classes)]
    folded = []
    for when, answers in (("before", before), ("after", after)):
        counts = count_confusions(answers, classes)
        table = format_markdown(header, [[shown(name), *map(str, row)] for name, *row in counts.itertuples()])
        folded.append(f"<details><summary>{when}</summary>\n\n{table}\n\n</details>")
    # One line of the section, because one side means nothing without the other.
    return ["\n\n".join(folded)]


def count_confusions(answers: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count how often each actual class got each answer.

    Parameters
    ----------
    answers : DataFrame
        A row for each image, its classes in ``actual`` and ``predicted``.
    classes : list of str

    Returns
    -------
    DataFrame
        Actual classes down, predicted ones across, both in the order of ``classes``.
    """
    counts = pd.crosstab(answers["actual"], answers["predicted"])
    return counts.reindex(index=classes, columns=classes, fill_value=0).rename_axis("actual \\ predicted")


def list_plots() -> dict[str, bytes]:
    """Read the CSV files of the working tree that the report is about, by name."""
    return {file.name: file.read_bytes() for what in COLUMNS for file in sorted(PLOTS.glob(f"*_{what}.csv"))}


def list_plots_at(start: str) -> dict[str, bytes]:
    """Read the CSV files of a commit that the report is about, by name."""
    listed = os.fsdecode(git("ls-tree", "-z", "--name-only", start, "--", f"{PLOTS}/")).split("\0")
    ends = tuple(f"_{what}.csv" for what in COLUMNS)
    return {Path(name).name: git("show", f"{start}:{name}") for name in listed if name.endswith(ends)}


def read_table(side: str, files: dict[str, bytes], model: str, what: str) -> pd.DataFrame:
    """Read one table of one side.

    Parameters
    ----------
    side : str
        What the side is called.
    files : dict of str to bytes
        Its CSV files.
    model : str
    what : str
        Which of the tables of ``COLUMNS``.

    Returns
    -------
    DataFrame
        Without rows where the side does not have the model at all.

    Raises
    ------
    InputError
        If the side has the model's other table only, or something else in this one.
    """
    columns, name = COLUMNS[what], f"{model}_{what}.csv"
    if not any(f"{model}_{each}.csv" in files for each in COLUMNS):
        return pd.DataFrame(columns=list(columns)).astype(columns)
    where = visible(f"{PLOTS / name} {side}")
    if name not in files:
        raise InputError(f"{where}: missing")
    wrong = InputError(f"{where}: not CSV with the columns {','.join(columns)}")
    try:
        # A class is called what its folder is, also where that reads like a missing value.
        table = pd.read_csv(io.BytesIO(files[name]), dtype=columns, keep_default_na=False)
    except ValueError as error:
        raise wrong from error
    # Rows longer than the header come with an index of their own, shorter ones with gaps.
    if not (set(columns) <= set(table) and isinstance(table.index, pd.RangeIndex)):
        raise wrong
    table = table[list(columns)]
    if (table.isna() | (table == "")).any(axis=None):
        raise wrong
    if what == "class_accuracy" and not (table["class"].is_unique and table["accuracy"].between(0, 1).all()):
        raise InputError(f"{where}: a class is named twice, or an accuracy is outside 0 to 1")
    return table


if __name__ == "__main__":
    run(main)
