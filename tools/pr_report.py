"""Write what the working tree changes in results, against the commit where it left a base branch, as Markdown."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import yaml
from typer import Option

from few_labels.errors import InputError
from stages import run

PLOTS = Path("metrics/plots/evaluation")
N_CLASSES_SHOWN = 3
NO_CHANGE = "no change"


def main(
    base: Annotated[str, Option(help="branch or commit to compare with")],
    report: Annotated[Path, Option(help="Markdown file to write")],
) -> None:
    # Where the branch was left, so that what others did on it since does not show as undone here.
    start = git("rev-parse", "--short", git("merge-base", base, "HEAD").strip()).strip()
    sections = [
        f"# Results, compared with `{base}` at {start}",
        "## Metrics",
        dvc_diff("metrics", start),
        "## Parameters",
        dvc_diff("params", start),
        "## Stages that ran again",
        list_stages(changed_stages(read_at(start, Path("dvc.lock")), Path("dvc.lock").read_text())),
    ]
    for file in sorted(PLOTS.glob("*_class_accuracy.csv")):
        model = file.name.removesuffix("_class_accuracy.csv")
        sections += [f"## Classes whose accuracy moved most: {model}", report_class_accuracy(start, file)]
    for file in sorted(PLOTS.glob("*_confusion.csv")):
        model = file.name.removesuffix("_confusion.csv")
        by_class = file.with_name(f"{model}_class_accuracy.csv")
        sections += [f"## Confusion matrix: {model}", report_confusion(start, file, list_classes(start, by_class))]
    report.write_text("\n\n".join(sections) + "\n")
    print(f"wrote {report}")


def dvc_diff(what: str, start: str) -> str:
    """Give DVC's own table of changed metrics or params."""
    command = [sys.executable, "-m", "dvc", what, "diff", "--md", start]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc {what} diff: {done.stderr.strip()}")
    header_and_rule, table = 2, done.stdout.strip()
    return table if len(table.splitlines()) > header_and_rule else NO_CHANGE


def changed_stages(before: str, after: str) -> list[str]:
    """Name the stages whose entry differs between two dvc.lock files: what they read, did or wrote is another.

    Parameters
    ----------
    before, after : str
        The files' text, empty where there was none.

    Returns
    -------
    list of str
        In the order of ``after``; stages that are gone come last.
    """
    old, new = ((yaml.safe_load(text) or {}).get("stages", {}) for text in (before, after))
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def list_stages(names: list[str]) -> str:
    """Write stage names as a list."""
    return "\n".join(f"- {name}" for name in names) or NO_CHANGE


def report_class_accuracy(start: str, file: Path) -> str:
    """Tabulate the classes whose accuracy moved most, in percent."""
    before, after = (100 * table.set_index("class")["accuracy"] for table in read_both(start, file))
    moved = moved_most(before, after)
    return NO_CHANGE if moved.empty else moved.to_markdown(floatfmt=("", ".1f", ".1f", "+.1f"))


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


def list_classes(start: str, file: Path) -> list[str]:
    """Give the classes of both sides, in the order of the data set."""
    before, after = read_both(start, file)
    return list(dict.fromkeys([*after["class"], *before["class"]]))


def report_confusion(start: str, file: Path, classes: list[str]) -> str:
    """Tabulate the confusion matrices of both sides, folded away, or say that they are the same."""
    before, after = (count_confusions(table, classes) for table in read_both(start, file))
    if before.equals(after):
        return NO_CHANGE
    return "\n\n".join(
        f"<details><summary>{when}</summary>\n\n{counts.to_markdown()}\n\n</details>"
        for when, counts in (("before", before), ("after", after))
    )


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


def read_both(start: str, file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table as it was at a commit, and as it is."""
    after = pd.read_csv(file)
    text = read_at(start, file)
    return (pd.read_csv(io.StringIO(text)) if text else after.iloc[:0]), after


def read_at(start: str, file: Path) -> str:
    """Give a file's text at a commit, empty where the commit does not have it."""
    return git("show", f"{start}:{file}") if git("ls-tree", start, "--", str(file)) else ""


def git(*arguments: str) -> str:
    """Run git and give its output."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr.strip() or 'no common history, fetch all of it'}")
    return done.stdout


if __name__ == "__main__":
    run(main)
