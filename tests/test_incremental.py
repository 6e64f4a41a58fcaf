"""A parameter change reruns the stages that it reaches, and no other; changing it back reruns none."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from few_labels.ledger import append_answer
from tests.conftest import Clone, executed, leaves

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
# What reruns when a parameter changes, one of each group. A stage whose inputs turn out the same is not reached: the
# small run buys representatives, so n_rounds reruns select-labels alone, and pixels do not depend on the clustering, so
# train-logreg reruns for a new training set, not for new features.
RERUNS: list[tuple[str, Any, set[str]]] = [
    ("seed", 7, {"embed"} | FROM_KMEANS),
    ("n_clusters", 60, FROM_KMEANS),
    ("percentile", 50, {"propagate"} | TRAIN_LOGREG | TRAIN_NN),
    ("download.dataset", "the-same", {"download", "select-labels"}),
    ("download.source", "auto", {"download"}),
    ("download.channels", "rgb", {"download", "embed"} | FROM_KMEANS),
    ("embed.method", "patches", {"embed"} | FROM_KMEANS),
    ("embed.n_words", 20, {"embed"}),
    # One more step on pixels moves no representative of the small run, so the same labels are bought.
    ("kmeans.n_iter_pixels", 2, FROM_KMEANS - {"refine"}),
    ("featurize.representation", "distances", {"featurize"} | TRAIN_LOGREG),
    ("select_labels.strategy", "random", {"select-labels"} | SPREAD | TRAIN_LOGREG | TRAIN_NN),
    ("select_labels.n_rounds", 4, {"select-labels"}),
    ("select_labels.n_audit", 100, {"select-labels"} | SPREAD | TRAIN_LOGREG | TRAIN_NN),
    ("refine.max_steps", 20, SPREAD | TRAIN_LOGREG | TRAIN_NN),
    ("refine.n_components", 16, {"refine"}),
    ("propagate.method", "linear", SPREAD | TRAIN_LOGREG | TRAIN_NN),
    ("propagate.alpha", 0.5, SPREAD),
    ("train_logreg.C", 1.0, {"select-labels"} | SPREAD | TRAIN_LOGREG),
    ("train_nn.max_steps", 20, {"refine"} | TRAIN_NN),
    # With a huge patience nothing changes but the parameter, so the same network comes out and evaluate is spared.
    ("train_nn.patience", 1000, {"refine", "train-nn"}),
    ("evaluate.answer", "logreg", TRAIN_NN),
]
# What else has to change for a value to be allowed.
WITH = {"refine.max_steps": {"propagate.method": "linear"}}
# The same, where the recipe for few labels uses what the default leaves aside.
RERUNS_OF_THE_RECIPE: list[tuple[str, Any, set[str]]] = [
    ("embed.n_words", 10, {"embed", "kmeans", "select-labels"} | SPREAD),
    ("embed.patch_size", 5, {"embed", "kmeans", "select-labels"} | SPREAD),
    ("embed.n_regions", 2, {"embed", "kmeans", "select-labels"} | SPREAD),
    ("embed.gradient_weight", 0, {"embed", "kmeans", "select-labels"} | SPREAD),
    ("embed.n_components", 10, {"embed", "kmeans", "select-labels"} | SPREAD),
    ("select_labels.n_labels", 50, {"select-labels"} | SPREAD),
    ("select_labels.n_rounds", 2, {"select-labels"} | SPREAD),
    ("propagate.n_neighbours", 5, SPREAD),
    ("propagate.alpha", 0.5, SPREAD),
    ("propagate.n_steps", 5, SPREAD),
    ("propagate.weighting", "equal", SPREAD),
    ("propagate.class_prior", "none", SPREAD),
    ("percentile", 50, {"propagate"}),
    ("refine.max_steps", 0, SPREAD),
    ("refine.n_components", 8, SPREAD),
    ("train_nn.mixup", 0, SPREAD),
    ("train_logreg.C", 3.0, {"select-labels"} | SPREAD),
]


def test_a_parameter_is_an_input_of_the_stages_that_read_it_and_of_no_other(clone: Clone) -> None:
    params = leaves(yaml.safe_load((clone.path / "params.yaml").read_text()))
    found = {}
    for name, value in params.items():
        clone.set_params({name: f"another than {value}"})
        # Stages are named after the path of dvc.yaml; any change is checked.
        found[name] = {stage.rpartition(":")[2] for stage in Repo(str(clone.path)).status()} - {"check-parameters"}
        clone.set_params({name: value})
    assert found == {name: READERS.get(name, READERS[name.split(".")[0]]) for name in params}


@pytest.mark.parametrize(("name", "value", "stages"), RERUNS, ids=[name for name, _, _ in RERUNS])
def test_a_change_reruns_what_it_reaches(clone: Clone, name: str, value: Any, stages: set[str]) -> None:
    before = (clone.path / "params.yaml").read_text()
    clone.set_params({name: value} | WITH.get(name, {}))
    assert set(clone.repro()) == stages

    (clone.path / "params.yaml").write_text(before)
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize(("name", "value", "stages"), RERUNS_OF_THE_RECIPE, ids=[r[0] for r in RERUNS_OF_THE_RECIPE])
def test_a_change_of_the_recipe_reruns_what_it_reaches(
    recipe_run: Clone, tmp_path: Path, name: str, value: Any, stages: set[str]
) -> None:
    clone = recipe_run.copy_to(tmp_path / "clone")
    before = (clone.path / "data" / "training_set.csv").read_bytes()
    clone.set_params({name: value})
    # As far as the training set: what another one reaches, the rows above say.
    assert set(executed(clone.dvc("repro", "propagate"))) == stages
    assert (clone.path / "data" / "training_set.csv").read_bytes() != before


def test_the_recipe_is_one_command_at_any_budget(clone: Clone) -> None:
    clone.sh("make few-labels LABELS=500".replace("500", "60"))
    assert clone.metrics()["labels"] == {"bought": 60, "trained_on": 1000}
    params = (clone.path / "params.yaml").read_text()
    assert "n_clusters: 60" in params
    assert "method: graph-and-linear" in params


def test_an_experiment_starts_where_its_parameter_enters(clone: Clone) -> None:
    ran = executed(clone.sh("dvc exp run -S percentile=50"))
    assert sorted(ran) == ["evaluate", "propagate", "train-logreg", "train-nn"]
    assert "propagation.coverage" in clone.sh("dvc metrics diff")


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
