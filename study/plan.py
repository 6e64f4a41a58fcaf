"""Which runs the study has, by ``study/runs.yaml``, and whether a result is that of the code as it is.

A run is the pipeline of ``dvc.yaml`` with other settings. Its result carries a fingerprint of all that decides it: the
commands, the code and the parameters of each stage. Where the project has another by now, the result is stale.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from few_labels.parameters import AllParameters
from stages import read_parameters
from tools.check import hash_file
from tools.recipes import BUDGET, combine, read_recipe

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "study" / "results"
# People's images and answers: no run of the study reads them.
OF_PEOPLE = {"data/own", "labels"}
IMAGE_SETS = "study/image_sets.py"
# What the peers of the recipe see, and what runs them.
PEERS: dict[str, Any] = {
    "last_stage": "select-labels",
    "beside": ("study/peers.py", "few_labels/graph.py", "few_labels/class_prior.py"),
    "parameters_beside": ("propagate.class_prior",),
}


@dataclass(frozen=True)
class Run:
    """The pipeline with some settings at one seed.

    Attributes
    ----------
    name : str
    seed : int
    settings : dict
        Values as they are written in YAML, by the name that the parameter has in params.yaml.
    by_name_only : bool
        Whether it is made only where it is named: it takes long, or fetches what else nothing needs.
    images : str
        The set of `study.image_sets` that it sees; empty for the pipeline's own.
    last_stage : str
        The stage that it ends with; empty for the pipeline's last.
    beside, parameters_beside : tuple of str
        Code and parameters that decide its result as those of the stages do.
    """

    name: str
    seed: int
    settings: dict[str, str] = field(hash=False)
    by_name_only: bool = False
    images: str = ""
    last_stage: str = ""
    beside: tuple[str, ...] = ()
    parameters_beside: tuple[str, ...] = ()

    @property
    def result(self) -> Path:
        """Where its result is."""
        return RESULTS / self.name / f"{self.seed}.json"

    @property
    def parameters(self) -> AllParameters:
        """All of its parameters, checked."""
        settings = [f"{name}={value}" for name, value in self.settings_with_seed.items()]
        return read_parameters([PROJECT / "params.yaml"], settings)

    @property
    def settings_with_seed(self) -> dict[str, str]:
        """What it changes in params.yaml."""
        return self.settings | {"seed": str(self.seed)}


def read_plan(path: Path = PROJECT / "study" / "runs.yaml") -> dict[str, Any]:
    """Read the plan with values as they are written, so that each arrives at the pipeline unchanged."""
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)


def list_runs(plan: dict[str, Any]) -> list[Run]:
    """List the runs of a plan, seed after seed within a group, so that what one seed's runs share is in the cache.

    Parameters
    ----------
    plan : dict
        As `read_plan` gives it.

    Returns
    -------
    list of Run
    """
    return [
        Run(
            name if budget is None else f"{name}_{budget}",
            int(seed),
            settle(group.get("recipe"), group.get("settings", {}) | changes, budget),
            by_name_only="by_name_only" in group,
            images=group.get("images", ""),
            **(PEERS if name.endswith("peers") else {}),
        )
        for group in plan["groups"]
        for seed in group["seeds"]
        for budget in group.get("budgets", [None])
        for name, changes in group["runs"].items()
    ]


def settle(recipe: str | None, changes: dict[str, str], budget: str | None) -> dict[str, str]:
    """Give the settings of a run: those of a recipe at a budget, where there is one, and what is changed in them."""
    changes = changes if budget is None else {BUDGET: budget} | changes
    return combine(read_recipe(recipe), changes) if recipe else changes


def take_fingerprint(pipeline: dict[str, Any], run: Run, root: Path = PROJECT) -> str:
    """Hash all that decides what a run of the pipeline gives, but for the bytes that DVC fetches or makes on the way.

    Parameters
    ----------
    pipeline : dict
        What ``dvc.yaml`` holds.
    run : Run
    root : Path
        The folder of ``dvc.yaml``.

    Returns
    -------
    str
        MD5 of each stage's command, of the parameters that it names, and of the code that it depends on.
    """
    stages = {name: stage for name, stage in pipeline["stages"].items() if name != "check-parameters"}
    if run.last_stage:
        # They stand in the order in which they run.
        stages = dict(list(stages.items())[: list(stages).index(run.last_stage) + 1])
    made = {path for stage in stages.values() for path in list_outputs(stage)} | OF_PEOPLE
    values = run.parameters.model_dump(mode="json")
    inputs: dict[str, Any] = {
        name: {
            "cmd": stage["cmd"],
            "params": {path: look_up(values, path) for path in stage.get("params", [])},
            "deps": {path: hash_path(root / path) for path in stage["deps"] if path not in made},
        }
        for name, stage in stages.items()
    }
    parameters_beside = {path: look_up(values, path) for path in run.parameters_beside}
    inputs["beside"] = parameters_beside | {path: hash_path(root / path) for path in run.beside}
    if run.images:
        inputs["images"] = {run.images: hash_path(root / IMAGE_SETS)}
    return hashlib.md5(json.dumps(inputs, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def list_outputs(stage: dict[str, Any]) -> list[str]:
    """List what a stage of ``dvc.yaml`` writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def look_up(values: dict[str, Any], path: str) -> Any:
    """Give what stands at a dotted name."""
    for step in path.split("."):
        values = values[step]
    return values


def hash_path(path: Path) -> str | dict[str, str]:
    """Hash a file, or each file of a folder; a model in it is named by its hash in the description beside it."""
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and ".onnx" not in file.suffixes]
        return {str(file.relative_to(path)): hash_file(file) for file in files}
    return hash_file(path)


def read_pipeline(root: Path = PROJECT) -> dict[str, Any]:
    """Read ``dvc.yaml``."""
    return yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))


def read_results(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Read the results, ``<run>/<seed>.json``, by run and seed."""
    return {
        (path.parent.name, int(path.stem)): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*/*.json"))
    }
