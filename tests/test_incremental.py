"""A parameter change reruns the stages that it reaches, and no other; changing it back reruns none."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from few_labels.ledger import append_answer
from tests.conftest import Clone, executed, leaves, run_stage

FROM_KMEANS = {"kmeans", "featurize", "select-labels", "refine", "propagate", "train-logreg", "train-nn", "evaluate"}
SPREAD = {"refine", "propagate"}
TRAIN_NN = {"train-nn", "evaluate"}
TRAIN_LOGREG = {"train-logreg", "evaluate"}

# The stages that a parameter is read by, or all of a group; another value of each.
READERS: dict[str, set[str]] = {
    "seed": {"embed", "kmeans", "select-labels", "refine", "train-logreg", "train-nn"},
    "n_clusters": {"kmeans"},
    "percentile": {"propagate"},
    "download": {"download"},
    "download.dataset": {"download", "select-labels"},
    "embed": {"embed"},
    "kmeans": {"kmeans"},
    "featurize": {"featurize"},
    "select_labels": {"select-labels"},
    "refine": {"refine"},
    "refine.max_steps": {"refine", "train-nn"},
    "propagate": {"refine", "propagate"},
    "train_logreg": {"select-labels", "refine", "propagate", "train-logreg"},
    "train_nn": {"refine", "train-nn"},
    "evaluate": {"train-nn", "evaluate"},
}
# What reruns when a parameter changes, for each way that a change can go; which stages read which parameter, the table
# above has for all. A stage whose inputs turn out the same is not reached: the small run buys representatives, so
# n_rounds reruns select-labels alone, and pixels do not depend on the clustering, so train-logreg reruns for a new
# training set, not for new features.
RERUNS: list[tuple[str, Any, set[str]]] = [
    ("seed", 7, {"embed"} | FROM_KMEANS),
    ("download.dataset", "the-same", {"download", "select-labels"}),
    ("download.source", "auto", {"download"}),
    ("embed.n_words", 20, {"embed"}),
    # One more step on pixels moves no representative of the small run, so the same labels are bought.
    ("kmeans.n_iter_pixels", 2, FROM_KMEANS - {"refine"}),
    ("featurize.representation", "distances", {"featurize"} | TRAIN_LOGREG),
    ("select_labels.strategy", "random", {"select-labels"} | SPREAD | TRAIN_LOGREG | TRAIN_NN),
    ("select_labels.n_rounds", 4, {"select-labels"}),
    ("propagate.alpha", 0.5, SPREAD),
    ("train_logreg.C", 1.0, {"select-labels"} | SPREAD | TRAIN_LOGREG),
    # With a huge patience nothing changes but the parameter, so the same network comes out and evaluate is spared.
    ("train_nn.patience", 1000, {"refine", "train-nn"}),
    ("evaluate.answer", "mean", TRAIN_NN),
]
# What the recipe for few labels uses, and the default leaves aside, with a stage that reads it and a file in which it
# shows.
CHANGES_OF_THE_RECIPE: list[tuple[str, Any, str, str]] = [
    ("embed.n_words", 10, "embed", "data/train_embedding.npy"),
    ("embed.patch_size", 5, "embed", "data/train_embedding.npy"),
    ("embed.n_regions", 2, "embed", "data/train_embedding.npy"),
    ("embed.gradient_weight", 0, "embed", "data/train_embedding.npy"),
    ("embed.n_components", 10, "embed", "data/train_embedding.npy"),
    ("select_labels.n_labels", 50, "select-labels", "data/bought_labels.csv"),
    ("select_labels.n_rounds", 2, "select-labels", "data/bought_labels.csv"),
    ("propagate.n_neighbours", 5, "propagate", "data/training_set.csv"),
    ("propagate.alpha", 0.5, "propagate", "data/training_set.csv"),
    ("propagate.n_steps", 5, "propagate", "data/training_set.csv"),
    ("propagate.weighting", "equal", "propagate", "data/training_set.csv"),
    ("propagate.class_prior", "none", "propagate", "data/training_set.csv"),
    ("percentile", 50, "propagate", "data/training_set.csv"),
    ("refine.max_steps", 0, "refine", "data/learned_embedding.npy"),
    ("refine.n_components", 8, "refine", "data/learned_embedding.npy"),
    ("train_nn.mixup", 0, "refine", "data/learned_embedding.npy"),
    ("train_logreg.C", 3.0, "propagate", "data/training_set.csv"),
    ("train_logreg.kernel", "none", "propagate", "data/training_set.csv"),
]


def test_a_parameter_is_an_input_of_the_stages_that_read_it_and_of_no_other(clone: Clone) -> None:
    params = leaves(yaml.safe_load((clone.path / "params.yaml").read_text()))
    clone.set_params({name: f"another than {value}" for name, value in params.items()})
    found: dict[str, set[str]] = {name: set() for name in params}
    # Stages are named after the path of dvc.yaml; any change is checked.
    for stage, changes in Repo(str(clone.path)).status().items():
        if (name := stage.rpartition(":")[2]) != "check-parameters":
            for parameter in read_changed(changes, params):
                found[parameter].add(name)
    assert found == {name: READERS.get(name, READERS[name.split(".")[0]]) for name in params}


def read_changed(changes: list[Any], params: dict[str, Any]) -> set[str]:
    """Name the parameters that DVC finds changed, where it names a group all of the group."""
    dependencies = [change["changed deps"] for change in changes if "changed deps" in change]
    named = {name for each in dependencies for name in each.get("params.yaml", {})}
    return {name for name in params if name in named or name.split(".")[0] in named}


@pytest.mark.parametrize(("name", "value", "stages"), RERUNS, ids=[name for name, _, _ in RERUNS])
def test_a_change_reruns_what_it_reaches(clone: Clone, name: str, value: Any, stages: set[str]) -> None:
    before = (clone.path / "params.yaml").read_text()
    clone.set_params({name: value})
    assert set(clone.repro()) == stages

    (clone.path / "params.yaml").write_text(before)
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("name", "value", "stage", "path"), CHANGES_OF_THE_RECIPE, ids=[name for name, *_ in CHANGES_OF_THE_RECIPE]
)
def test_a_change_of_the_recipe_shows_in_what_its_stage_writes(
    recipe_run: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, stage: str, path: str
) -> None:
    """The stage runs in this process: which of them DVC runs, the tests above say."""
    clone = recipe_run.copy_to(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    before = Path(path).read_bytes()
    clone.set_params({name: value})
    run_stage(stage)
    assert Path(path).read_bytes() != before


def test_the_recipe_is_one_command_at_any_budget(clone: Clone) -> None:
    recipe = clone.path / "recipes/few-labels.yaml"
    # With a hundredth of the steps, and a twentieth of the words.
    recipe.write_text(re.sub(r"(max_steps: \d+)00\b", r"\1", recipe.read_text()))
    clone.set_params({"embed.n_words": 20})
    clone.sh("make few-labels LABELS=500".replace("500", "60"))
    assert clone.metrics()["labels"] == {"bought": 60, "trained_on": 1000}
    params = (clone.path / "params.yaml").read_text()
    assert "n_clusters: 60" in params
    assert "method: graph-and-logreg" in params


def test_an_experiment_starts_where_its_parameter_enters(clone: Clone) -> None:
    ran = executed(clone.sh("dvc exp run -S percentile=50"))
    assert sorted(ran) == ["evaluate", "propagate", "train-logreg", "train-nn"]
    assert "propagation.coverage" in clone.sh("dvc metrics diff")

    clone.git("checkout", "params.yaml")
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


def test_a_quick_run_needs_no_more_than_two_settings(clone: Clone) -> None:
    assert len(executed(clone.sh("dvc exp run -S download.limit=6000 -S select_labels.n_labels=200"))) == 10
    assert clone.metrics()["labels"]["bought"] == 200


def test_one_more_answer_reruns_what_it_reaches(clone: Clone) -> None:
    clone.set_params({"select_labels.oracle": "person", "select_labels.n_labels": 60})
    assert clone.repro() == ["select-labels"]
    queries = pd.read_csv(clone.path / "data" / "queries.csv")
    append_answer(
        clone.path / "labels/fashion-mnist.csv", image=queries["image"][0], label="Bag", annotator="A. Tester", round=2
    )
    assert set(clone.repro()) == {"select-labels"} | SPREAD | TRAIN_LOGREG | TRAIN_NN
    assert clone.metrics()["labels"]["bought"] == 51


def test_nothing_changed_runs_nothing(clone: Clone) -> None:
    assert clone.repro() == []
    assert "up to date" in clone.dvc("status")
