"""The graph is the proof: what no edge leads to, no stage can read."""

import ast
import re

import pytest
import yaml

from tests.conftest import PROJECT

STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
MAY_READ_TRAIN_LABELS = {"select-labels", "evaluate"}
MAY_READ_TEST_LABELS = {"evaluate"}
MAY_READ_ANSWERS = {"select-labels"}
MAY_READ_AUDIT_LABELS = {"evaluate"}
# What a command line looks like, what a parameter may be, what a mistake is called, and where a map runs, cannot change
# what a stage computes.
WITHOUT_EFFECT_ON_RESULTS = {
    "stages/__init__.py",
    "few_labels/__init__.py",
    "few_labels/cluster.py",
    "few_labels/errors.py",
    "few_labels/parameters.py",
}
CODE = ("stages/", "few_labels/")


def outputs(stage: dict) -> set[str]:
    listed = stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", [])
    return {out if isinstance(out, str) else next(iter(out)) for out in listed}


def imported_modules(path: str) -> set[str]:
    """The project's own files that a module needs, itself included."""
    found, waiting = set(), [path]
    while waiting:
        module = waiting.pop()
        found.add(module)
        names = [
            f"{node.module.replace('.', '/')}.py"
            for node in ast.walk(ast.parse((PROJECT / module).read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        ]
        waiting += [name for name in names if (PROJECT / name).is_file() and name not in found]
    return found


def test_the_stages_are_those_of_the_design() -> None:
    assert list(STAGES) == [
        "check-parameters",
        "download",
        "embed",
        "kmeans",
        "featurize",
        "select-labels",
        "refine",
        "propagate",
        "train-logreg",
        "train-nn",
        "evaluate",
    ]


def test_labels_reach_only_the_stages_that_may_read_them() -> None:
    readers = {
        labels: {name for name, stage in STAGES.items() if labels in stage.get("deps", [])}
        for labels in ("data/train_labels.npy", "data/test_labels.npy", "labels", "data/audit_labels.csv")
    }
    assert readers == {
        "data/train_labels.npy": MAY_READ_TRAIN_LABELS,
        "data/test_labels.npy": MAY_READ_TEST_LABELS,
        "labels": MAY_READ_ANSWERS,
        "data/audit_labels.csv": MAY_READ_AUDIT_LABELS,
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_command_names_exactly_its_inputs_and_outputs(name: str) -> None:
    stage = STAGES[name]
    named = set(re.findall(r"(?:data|models|metrics)/[\w./-]+", stage["cmd"]))
    read = {dep for dep in stage.get("deps", []) if not dep.startswith(CODE)}
    # Of a data set, or an encoder, there is one file in each of these folders; a parameter names it.
    for folder, option in {"labels": "--ledgers", "datasets": "--descriptions", "encoders": "--encoders"}.items():
        assert (folder in read) == (f"{option} {folder} " in stage["cmd"])
    read -= {"labels", "datasets", "encoders"}
    # Every stage reads it; what of it a stage depends on stands under params.
    read -= {"params.yaml"}
    written = outputs(stage)
    folders = {name for name in named if any(out.startswith(f"{name}/") for out in written)}
    assert named - folders == read | {out for out in written if not any(out.startswith(f"{name}/") for name in folders)}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_can_change_its_result_and_no_other(name: str) -> None:
    needed = imported_modules(f"stages/{name.replace('-', '_')}.py") - WITHOUT_EFFECT_ON_RESULTS
    # Which kernels compute is settled where every stage enters, and decides results as its own code does.
    needed.add("few_labels/parameters.py" if name == "check-parameters" else "few_labels/kernels.py")
    assert {dep for dep in STAGES[name]["deps"] if dep.startswith(CODE)} == needed


@pytest.mark.parametrize("name", STAGES)
def test_a_module_holds_no_path(name: str) -> None:
    source = (PROJECT / f"stages/{name.replace('-', '_')}.py").read_text()
    assert not re.findall(r"[\"'](?:\.\./)*(?:data|models|metrics)/", source)
