"""The first network learns from what it may learn from, and what it makes of images stands beside the embedding."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from few_labels.artifacts import LabelledImages
from few_labels.errors import InputError
from few_labels.parameters import AllParameters, Refine
from stages import read_parameters, refine
from stages.refine import reduce_activations
from tests.conftest import Clone


def call(data: Path, parameters: AllParameters, written: Path, **paths: Path) -> None:
    files = {
        "images": "train_images.npy",
        "embedding": "train_embedding.npy",
        "classes": "classes.json",
        "bought": "bought_labels.csv",
        "audit_images": "audit_images.csv",
    }
    wanted = ("refine", "propagate", "train_logreg", "train_nn", "seed")
    arguments: dict[str, Any] = {name: getattr(parameters, name) for name in wanted}
    refine.main(
        **arguments | {name: data / file for name, file in files.items()} | paths,
        learned_embedding=written / "learned.npy",
        first_scores=written / "scores.npy",
        first_network=written / "first.keras",
    )


def test_without_a_first_network_nothing_is_added(small_run: Clone) -> None:
    for name in ("learned_embedding", "first_scores"):
        assert np.load(small_run.path / "data" / f"{name}.npy").shape == (1000, 0)
    assert (small_run.path / "data" / "first_network.keras").read_bytes() == b""


def test_the_network_is_taken_over_for_all_images(recipe_run: Clone) -> None:
    data = recipe_run.path / "data"
    embedding, learned, scores = (
        np.load(data / f"{name}.npy") for name in ("train_embedding", "learned_embedding", "first_scores")
    )
    assert learned.shape == (1000, 64)
    assert learned.var(axis=0).sum() == pytest.approx(embedding.var(axis=0).sum(), rel=0.01)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    known = np.load(data / "train_labels.npy")
    assert (scores.argmax(axis=1) == known).mean() > 0.5


def test_components_are_as_wide_as_the_embedding_whatever_their_units() -> None:
    random = np.random.default_rng(0)
    X = random.normal(0, 3, (500, 20)).astype(np.float32)
    activations = random.normal(5, [[10, 4, 1, 0.1]], (500, 4)).astype(np.float32)
    reduced = reduce_activations(X, activations, 2)[:]
    assert reduced.dtype == np.float32
    assert reduced.shape == (500, 2)
    assert reduced.var(axis=0).sum() == pytest.approx(X.var(axis=0).sum(), rel=0.01)
    assert abs(np.corrcoef(reduced[:, 0], activations[:, 0])[0, 1]) > 0.99
    np.testing.assert_allclose(reduce_activations(X, 100 * activations, 2)[:], reduced, rtol=1e-3, atol=1e-3)
    assert reduce_activations(X, activations, 64).shape == (500, 4)


def test_a_layer_that_says_the_same_of_all_images_adds_nothing() -> None:
    X = np.random.default_rng(0).random((50, 3), dtype=np.float32)
    assert (reduce_activations(X, np.ones((50, 7), np.float32), 5)[:] == 0).all()


def test_it_learns_from_no_audit_image(recipe_run: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = recipe_run.path / "data"
    bought = pd.read_csv(data / "bought_labels.csv")["index"].to_numpy()
    audit = np.setdiff1d(np.arange(0, 1000, 7), bought)
    pd.DataFrame({"index": audit}).to_csv(tmp_path / "audit.csv", index=False)
    learned_from = []

    def look(pictures: Any, labelled: LabelledImages, *settings: Any) -> tuple[np.ndarray, np.ndarray]:
        learned_from.append(labelled)
        return np.ones((len(pictures), 70), np.float32), np.ones((len(pictures), 10), np.float32)

    monkeypatch.setattr(refine, "look", look)
    parameters = read_parameters([recipe_run.path / "params.yaml"], [])
    call(data, parameters, tmp_path, audit_images=tmp_path / "audit.csv")
    (labelled,) = learned_from
    np.testing.assert_array_equal(labelled.index, np.setdiff1d(np.arange(1000), audit))

    # Everything is bought or kept for grading: nothing is left to spread a label to.
    table = pd.DataFrame({"index": np.setdiff1d(np.arange(1000), audit)}).assign(label=3)
    table.to_csv(tmp_path / "all.csv", index=False)
    call(data, parameters, tmp_path, audit_images=tmp_path / "audit.csv", bought=tmp_path / "all.csv")
    assert len(learned_from) == 1
    assert np.load(tmp_path / "learned.npy").shape == (1000, 0)


def test_clusters_have_no_use_for_a_first_network(small_run: Clone, tmp_path: Path) -> None:
    parameters = read_parameters([small_run.path / "params.yaml"], [])
    parameters = parameters.model_copy(update={"refine": Refine(max_steps=9, n_components=3)})
    with pytest.raises(InputError, match=r"refine\.max_steps is 9, allowed is 0 where propagate\.method is cluster"):
        call(small_run.path / "data", parameters, tmp_path)


def test_a_first_network_leaves_steps_to_go_on_with(recipe_run: Clone, tmp_path: Path) -> None:
    parameters = read_parameters([recipe_run.path / "params.yaml"], ["refine.max_steps=60"])
    with pytest.raises(InputError, match=r"refine\.max_steps is 60, allowed is less than train_nn\.max_steps, 60"):
        call(recipe_run.path / "data", parameters, tmp_path)
