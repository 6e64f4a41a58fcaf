"""Run a recipe: a set of parameters with a name, such as ``python -m tools.recipes few-labels --set seed=1``.

``recipes/<name>.yaml`` says what a recipe changes in params.yaml; a run of it is a DVC experiment with these settings.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import yaml
from typer import Argument, Option

from few_labels.errors import InputError, quote
from few_labels.parameters import parameter_names, suggest
from stages import read_parameters, run

PROJECT = Path(__file__).parent.parent
RECIPES = PROJECT / "recipes"
BUDGET = "select_labels.n_labels"
# Of Fashion-MNIST, for which the recipe was made.
ALL_LABELS = 60_000
STEPS_FOR_ALL = 13_200
# With fewer, a classifier knows too little of the classes for its doubts to be worth a label.
LEAST_REPRESENTATIVES = 100


def main(
    recipe: Annotated[str, Argument(help="a file in recipes, without .yaml")],
    setting: Annotated[list[str] | None, Option("--set", help="another value: select_labels.n_labels=500")] = None,
) -> None:
    settings = combine(read_recipe(recipe), parse_settings(setting or []))
    read_parameters([PROJECT / "params.yaml"], ["=".join(each) for each in settings.items()])
    command = [sys.executable, "-m", "dvc", "exp", "run", *to_arguments(settings)]
    raise SystemExit(subprocess.run(command, cwd=PROJECT, check=False).returncode)


def combine(recipe: dict[str, str], chosen: dict[str, str]) -> dict[str, str]:
    """Give a recipe's settings where some are chosen by hand: the budget moves others, unless these are chosen too."""
    budget = (recipe | chosen).get(BUDGET)
    by_budget = at_budget(parse_budget(budget)) if budget else {}
    return recipe | chosen | {name: value for name, value in by_budget.items() if name == BUDGET or name not in chosen}


def read_recipe(name: str) -> dict[str, str]:
    """Read what a recipe changes.

    Returns
    -------
    dict
        Values as they are written, by the name that the parameter has in params.yaml, groups joined by dots.

    Raises
    ------
    InputError
        If there is no such recipe, or it is no YAML, or names what params.yaml does not have.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise InputError(f"recipe is {name!r}, allowed are {there}: the files in {RECIPES.name}")
    try:
        # The base loader takes numbers for text, so that each value arrives at DVC as it is written.
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{path.name}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name}: holds {type(content).__name__}, allowed is what params.yaml holds")
    return check_names(flatten(content), path.name)


def at_budget(n_labels: int) -> dict[str, str]:
    """Give the settings for a budget, by one rule.

    A quarter of the labels, and the first hundred in any case, go to the representatives of as many clusters, the rest
    to the smallest margins. Up to 100 labels there are no margins, and a budget that buys all needs no choice; as no
    label is a guess then, the network learns three times as long from them.

    Parameters
    ----------
    n_labels : int
        2 or more.

    Returns
    -------
    dict
        Values as they are written, by the name that the parameter has in params.yaml.
    """
    if n_labels >= ALL_LABELS:
        return {BUDGET: str(n_labels), "select_labels.strategy": "all", "train_nn.max_steps": str(STEPS_FOR_ALL)}
    return {BUDGET: str(n_labels), "n_clusters": str(max(min(n_labels, LEAST_REPRESENTATIVES), n_labels // 4))}


def to_arguments(settings: dict[str, str]) -> list[str]:
    """Write settings as ``dvc exp run`` takes them."""
    return [argument for setting in settings.items() for argument in ("--set-param", "=".join(setting))]


def parse_settings(settings: list[str]) -> dict[str, str]:
    """Read settings as they are typed, ``name=value``.

    Raises
    ------
    InputError
        If one is something else, or names what params.yaml does not have.
    """
    for setting in settings:
        if "=" not in setting:
            raise InputError(f"--set is {setting!r}, allowed is name=value, such as select_labels.n_labels=500")
    return check_names({name: value for name, _, value in (setting.partition("=") for setting in settings)}, "--set")


def parse_budget(budget: str) -> int:
    """Read a number of labels, or ``all``."""
    if budget == "all":
        return ALL_LABELS
    if not budget.isdecimal() or int(budget) < 2:
        raise InputError(f"{BUDGET} is {quote(budget)}, allowed are 2 and more, and all")
    return int(budget)


def check_names(settings: dict[str, str], where: str) -> dict[str, str]:
    """Give settings back whose names are all in params.yaml."""
    for name in settings:
        if name not in parameter_names():
            raise InputError(f"{where}: {quote(name)} is no parameter, {suggest(name)}")
    return settings


def flatten(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join the names of nested parameters by dots."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


if __name__ == "__main__":
    run(main)
