"""The README says what the project does now."""

import json
import re

import pytest
import yaml

from tests.conftest import PROJECT, leaves

README = (PROJECT / "README.md").read_text()


def test_the_table_holds_every_parameter_and_its_default() -> None:
    table = re.findall(r"^\| `([\w.]+)` \| (\S+) \|", README, re.MULTILINE)
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


def test_the_committed_run_beats_the_published_one() -> None:
    metrics = json.loads((PROJECT / "metrics" / "metrics.json").read_text())
    assert metrics["logreg"]["accuracy"] >= 0.8044
    assert metrics["nn"]["accuracy"] >= 0.7942


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_every_picture_is_there(picture: str) -> None:
    assert (PROJECT / picture).is_file()
