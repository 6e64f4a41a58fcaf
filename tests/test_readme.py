"""The README says what the project does now."""

import ast
import json
import re

import pandas as pd
import pytest
import yaml

from benchmarks.report import format_ratios
from tests.conftest import PROJECT, leaves
from tests.test_graph import outputs
from tools.pages import insert

README = (PROJECT / "README.md").read_text()


def test_the_table_holds_every_parameter_and_its_default() -> None:
    section = README.split("## Every parameter")[1].split("\n## ")[0]
    table = re.findall(r"^\| `([\w.]+)` \| (\S+) \|", section, re.MULTILINE)
    params = leaves(yaml.safe_load((PROJECT / "params.yaml").read_text()))
    assert table == [(name, "null" if value is None else str(value)) for name, value in params.items()]


def test_the_results_are_those_of_the_committed_run() -> None:
    metrics = json.loads((PROJECT / "metrics" / "metrics.json").read_text())
    bought, trained_on = metrics["labels"]["bought"], metrics["labels"]["trained_on"]
    assert f"| logistic regression | {metrics['logreg']['accuracy']:.2%} |".replace("%", " %") in README
    assert f"| convolutional network | {metrics['nn']['accuracy']:.2%} |".replace("%", " %") in README
    assert f"The {bought:,} labels became {trained_on:,} training labels" in README
    right = f"{metrics['propagation']['accuracy']:.2%}".replace("%", " %")
    assert f"of the {trained_on - bought:,} that were spread, {right} are right" in README


def test_the_comparisons_are_those_of_the_committed_table() -> None:
    table = pd.read_csv(PROJECT / "metrics" / "bench.csv")
    comparisons = table[~table["case"].str.startswith("scaling-")]
    assert insert(README, "bench", format_ratios(comparisons)) == README


def test_the_committed_run_beats_the_published_one() -> None:
    metrics = json.loads((PROJECT / "metrics" / "metrics.json").read_text())
    assert metrics["logreg"]["accuracy"] >= 0.8044
    assert metrics["nn"]["accuracy"] >= 0.7942


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_every_picture_is_there(picture: str) -> None:
    assert (PROJECT / picture).is_file()


def test_the_picture_of_the_graph_is_the_graph() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    maker = {out: name for name, stage in stages.items() for out in outputs(stage)}
    edges = {(maker[dep], name) for name, stage in stages.items() for dep in stage["deps"] if dep in maker}
    drawn = re.findall(r"^    ([\w-]+) -- .+ --> ([\w-]+)$", README, re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == edges


def shown_commands() -> list[str]:
    """The lines of the shell blocks of the sections on changing, comparing and sharing, without comments."""
    sections = re.split(r"^## ", README, flags=re.MULTILINE)
    shown = "".join(section for section in sections if section.startswith(("Your own", "Change", "Share")))
    blocks = re.findall(r"^```sh\n(.*?)^```", shown, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    # GitLab's command line needs GitLab; what comes before it is the `make pr-report` that the tests run.
    return [line for line in lines if "glab mr note" not in line]


def commands_run_by_tests() -> set[str]:
    """The command lines that the tests hand to ``Clone.sh`` and ``Clone.start``."""
    found = set()
    for module in sorted((PROJECT / "tests").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"sh", "start"}
            ):
                found |= {str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return found


@pytest.mark.parametrize("command", shown_commands())
def test_a_command_is_one_that_a_test_runs(command: str) -> None:
    assert command in commands_run_by_tests()
