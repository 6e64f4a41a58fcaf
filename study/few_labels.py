"""Run the recipe for few labels as DVC experiments: at several budgets and seeds, and with each ingredient removed.

A run is the pipeline with other settings and nothing else: those of ``recipes/few-labels.yaml``, and what stands below.
Its metrics go to ``study/few_labels/<variant>/<labels>_<seed>.json``; a run whose metrics are there is not made again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import dvc.api
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import replacing
from stages import run
from tools.recipes import ALL_LABELS, at_budget, read_recipe, to_arguments

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "study" / "few_labels"
RECIPE = "few-labels"
SEEDS = {2000: [42, 1, 2, 3, 4], 500: [42, 1, 2], 1000: [42, 1, 2]} | {
    n_labels: [42] for n_labels in (50, 100, 200, 5000, 10_000, 20_000, ALL_LABELS)
}
# What takes the place of an ingredient.
WITHOUT = {
    "learned_embedding": {"embed.method": "pixels"},
    "margins": {"select_labels.strategy": "representative", "n_clusters": "2000"},
    "margins_and_clusters": {"select_labels.strategy": "random"},
    "linear_model": {"propagate.method": "graph"},
    "graph": {"propagate.method": "linear"},
    "spread_labels": {"percentile": "0"},
    "weights": {"propagate.weighting": "equal"},
    "large_network": {"train_nn.architecture": "compact"},
    "mixup": {"train_nn.mixup": "0"},
}
# Where an ingredient is left out: the fewer the labels, the more the graph makes up for.
ABLATIONS = {2000: list(WITHOUT), 500: ["graph"]}


def main(
    variant: Annotated[list[str] | None, Option(help="recipe, or an ingredient to leave out; all without")] = None,
    only_seed: Annotated[list[int] | None, Option(help="a seed to run, or more; all without")] = None,
) -> None:
    for name, n_labels, seed, changes in tqdm(plan_runs(), unit="run"):
        result = RESULTS / name / f"{n_labels}_{seed}.json"
        wanted = (not variant or name.removeprefix("without_") in variant) and (not only_seed or seed in only_seed)
        if wanted and not result.exists():
            settings = read_recipe(RECIPE) | at_budget(n_labels) | {"seed": str(seed)} | changes
            with experiment(f"{name}-{n_labels}-{seed}".replace("_", "-"), settings) as revision:
                metrics = json.loads(dvc.api.read("metrics/metrics.json", repo=str(PROJECT), rev=revision))
            with replacing(result) as temporary:
                temporary.write_text(json.dumps(metrics, indent=2) + "\n")


def plan_runs() -> list[tuple[str, int, int, dict[str, str]]]:
    """Give the variant, budget and seed of each run, and the settings that it does not share with the recipe."""
    runs: list[tuple[str, int, int, dict[str, str]]]
    runs = [("recipe", n_labels, seed, {}) for n_labels, seeds in SEEDS.items() for seed in seeds]
    return runs + [
        (f"without_{name}", n_labels, seed, WITHOUT[name])
        for n_labels, names in ABLATIONS.items()
        for name in names
        for seed in SEEDS[n_labels]
    ]


@contextmanager
def experiment(name: str, settings: dict[str, str], *stages: str) -> Iterator[str]:
    """Run the pipeline as a DVC experiment outside the workspace; what DVC has cached is not run again.

    Parameters
    ----------
    name : str
    settings : dict
        Parameters by their name in params.yaml.
    *stages : str
        Run these and what they depend on; all without.

    Yields
    ------
    str
        The revision to read the outputs of, by ``dvc.api``. The experiment is removed when the block ends: the list of
        experiments is for those that people make, and the cache keeps what was computed.
    """
    # The temporary copy that DVC makes has no .venv, and dvc.yaml falls back on the active environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def call(*command: str) -> None:
        subprocess.run(["dvc", "exp", *command], cwd=PROJECT, env=os.environ | {"PATH": path}, check=True)

    call("run", "--temp", "--name", name, *to_arguments(settings), *stages)
    try:
        yield name
    finally:
        call("remove", "--quiet", name)


if __name__ == "__main__":
    run(main)
