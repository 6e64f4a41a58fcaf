"""The report of a pull request says what the two sides' files say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import FASHION, PROJECT, Clone
from tools.pr_report import changed_stages, count_confusions, moved_most

NAMES = FASHION.class_names
WORKFLOW = PROJECT / ".github/workflows/metrics.yaml"


def sections(report: str) -> dict[str, str]:
    """The text under each heading."""
    parts = re.split(r"^## (.+)$", report, flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its header and rule."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def flat(metrics: dict, prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_the_report_says_what_both_sides_files_say(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    clone.git("checkout", "--quiet", "-b", "half")
    clone.sh("dvc exp run -S percentile=50")
    clone.git("commit", "--quiet", "--all", "--message", "Spread over half")
    # What others do on the base branch meanwhile is no change of this one.
    clone.git("checkout", "--quiet", "main")
    clone.set_params({"train_logreg.C": 0.2})
    clone.git("commit", "--quiet", "--all", "--message", "Elsewhere")
    clone.git("checkout", "--quiet", "half")

    clone.sh("make pr-report BASE=main")

    report = sections((clone.path / "report.md").read_text())
    assert clone.git("status", "--porcelain") == ""
    start = clone.git("merge-base", "main", "half").strip()
    before, after = flat(json.loads(clone.git("show", f"{start}:metrics/metrics.json"))), flat(clone.metrics())
    moved = {name for name in after if before[name] != after[name]}
    assert moved
    table = {row[1]: row[2:] for row in rows(report["Metrics"])}
    assert set(table) == moved
    for name, (old, new, change) in table.items():
        assert [float(old), float(new)] == pytest.approx([before[name], after[name]], abs=1e-5)
        assert float(change) == pytest.approx(after[name] - before[name], abs=1e-5)
    assert rows(report["Parameters"]) == [["params.yaml", "percentile", "25", "50"]]
    assert report["Stages that ran again"].splitlines() == ["- propagate", "- train-logreg", "- train-nn", "- evaluate"]

    for model in ("logreg", "nn"):
        name = f"metrics/plots/evaluation/{model}_confusion.csv"
        folded = report[f"Confusion matrix: {model}"].split("</details>")
        for text, csv in zip(
            folded, (clone.git("show", f"{start}:{name}"), (clone.path / name).read_text()), strict=False
        ):
            answers = [tuple(line.split(",")) for line in csv.splitlines()[1:]]
            cells = rows(text)
            classes = [row[0] for row in cells]
            assert len(classes) == 10
            for actual, *counts in cells:
                assert [int(count) for count in counts] == [answers.count((actual, answer)) for answer in classes]

        name = f"metrics/plots/evaluation/{model}_class_accuracy.csv"
        was, became = (
            dict(line.rsplit(",", 1) for line in csv.splitlines()[1:])
            for csv in (clone.git("show", f"{start}:{name}"), (clone.path / name).read_text())
        )
        changes = {c: 100 * (float(became[c]) - float(was[c])) for c in became}
        shown = {row[0]: float(row[3]) for row in rows(report[f"Classes whose accuracy moved most: {model}"])}
        assert shown == pytest.approx({c: changes[c] for c in shown}, abs=0.06)
        others = [abs(change) for c, change in changes.items() if c not in shown]
        assert min(abs(change) for change in shown.values()) >= max(others) - 0.06


def test_the_table_of_experiments_has_the_columns_that_matter(clone: Clone) -> None:
    default = yaml.safe_load((clone.path / "params.yaml").read_text())["train_logreg"]["C"]
    clone.sh("dvc exp run -S train_logreg.C=1")
    header, _, base, experiment = [line.strip("|").split("|") for line in clone.sh("make compare").strip().splitlines()]
    assert [cell.strip() for cell in header] == ["Experiment", "logreg.accuracy", "train_logreg.C"]
    assert [row[-1].strip() for row in (base, experiment)] == [str(default), "1"]


def test_dvc_compares_the_workspace_with_a_branch(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    clone.sh("dvc exp run -S percentile=50")
    assert "propagation.coverage" in clone.sh("dvc metrics diff main")
    assert "percentile" in clone.sh("dvc params diff main")
    clone.sh("dvc plots diff main")
    assert "Network: confusion matrix" in (clone.path / "dvc_plots/index.html").read_text()


def test_no_change_says_so(clone: Clone) -> None:
    clone.sh("make pr-report BASE=main")
    report = sections((clone.path / "report.md").read_text())
    assert len(report) == 7
    assert set(report.values()) == {"no change"}


def test_an_unknown_base_is_one_line(clone: Clone) -> None:
    done = clone.call("python", "-m", "tools.pr_report", "--base", "nowhere", "--report", "report.md", check=False)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert "nowhere" in done.stdout
    assert not (clone.path / "report.md").exists()


def test_changed_stages_are_those_with_another_entry() -> None:
    before = "stages: {same: {cmd: a}, other: {cmd: b}, gone: {cmd: c}}"
    after = "stages: {new: {cmd: d}, same: {cmd: a}, other: {cmd: e}}"
    assert changed_stages(before, after) == ["new", "other", "gone"]
    assert changed_stages("", after) == ["new", "same", "other"]


def test_the_three_classes_that_moved_most_come_first_up_or_down() -> None:
    before = pd.Series({"Bag": 10.0, "Coat": 20.0, "Dress": 30.0, "Shirt": 40.0, "Sandal": 50.0})
    after = pd.Series({"Bag": 10.0, "Coat": 15.0, "Dress": 31.0, "Shirt": 47.0, "Sandal": 52.0})
    assert list(moved_most(before, after).index) == ["Shirt", "Coat", "Sandal"]


def test_a_class_never_answered_keeps_its_column() -> None:
    counts = count_confusions(
        pd.DataFrame({"actual": ["Bag", "Bag", "Coat"], "predicted": ["Bag", "Coat", "Coat"]}), NAMES
    )
    assert counts.shape == (10, 10)
    assert counts.loc["Bag", "Coat"] == 1
    assert counts.to_numpy().sum() == 3


def test_the_workflow_fits_github_s_schema_and_calls_make() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*checker, WORKFLOW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    commands = [step.get("run", "") for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["report"]["steps"]]
    assert 'make pr-report BASE="origin/$BASE"' in commands
    assert not any("repro" in command for command in commands)
