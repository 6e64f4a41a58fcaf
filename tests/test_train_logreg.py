"""Logistic regression learns, and says what it cannot learn from."""

import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from few_labels import blocks, logistic_regression
from few_labels.artifacts import LabelledImages, load_labelled
from few_labels.components import fit_components
from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors
from few_labels.logistic_regression import choose_landmarks, out_of_fold, score, train, train_on
from few_labels.stored import Stored
from tests.conftest import Clone, read_images, read_labels


def test_it_learns_from_real_images(idx_folder: Path) -> None:
    images, labels = to_pixel_vectors(read_images(idx_folder)[:4000]), read_labels(idx_folder)[:4000]
    model = train(images[:3000], labels[:3000], C=0.1, max_iter=100, seed=0)
    assert model.coef_.shape == (10, 784)
    assert model.score(images[3000:], labels[3000:]) > 0.78


@pytest.fixture
def mixture() -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Three classes that overlap, far from the origin, wide along two directions; and some weights."""
    rng = np.random.default_rng(0)
    y = (np.arange(90) % 3).astype(np.uint8)
    X = rng.normal(size=(90, 8)) * [9, 4, 1, 1, 1, 1, 0.5, 0.1] + 3 * np.eye(3, 8)[y] + 5
    return X.astype(np.float32), y, rng.random(90).astype(np.float32)


@pytest.mark.parametrize(("weighted", "n_components"), [(False, 8), (True, 8), (False, 5)])
def test_it_is_logistic_regression_on_shrunk_components(
    mixture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]],
    weighted: bool,
    n_components: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logistic_regression, "N_COMPONENTS", n_components)
    X, y, weight = mixture
    given = weight if weighted else None
    variances, directions = np.linalg.eigh(np.cov(X, rowvar=False))
    shrunk = (X - X.mean(axis=0)) @ directions / np.sqrt(1 + variances / 10)
    shrunk = shrunk[:, -n_components:]
    expected = LogisticRegression(C=0.5, max_iter=500, tol=1e-8).fit(shrunk, y, sample_weight=given)
    model = train(X, y, weight=given, C=0.5, max_iter=500, seed=3)
    np.testing.assert_allclose(score(model, X, 3), expected.predict_proba(shrunk), atol=2e-3)
    assert (model.C, model.max_iter, model.random_state, model.n_features_in_) == (0.5, 500, 3, 8)
    assert score(model, X, 3).dtype == np.float32


@pytest.mark.parametrize("weighted", [False, True])
def test_many_rows_are_learnt_from_by_sums_over_partitions(
    mixture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]],
    weighted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y, weight = mixture
    index = np.flatnonzero(np.random.default_rng(1).random(90) < 0.7)
    labelled = LabelledImages(index, 2 * y[index], weight[index] if weighted else None)
    together = train_on(X, labelled, C=0.5, max_iter=500)
    monkeypatch.setattr(blocks, "MOST_ROWS_WHOLE", 20)
    monkeypatch.setattr(blocks, "ROWS_PER_PARTITION", 16)
    np.save(tmp_path / "X.npy", X)
    stored = Stored.of(np.load(tmp_path / "X.npy", mmap_mode="r"))
    parts = train_on(stored, labelled, C=0.5, max_iter=500, seed=3, scratch=tmp_path / "scratch.npy")
    np.testing.assert_allclose(score(parts, X, 5), score(together, X, 5), atol=2e-3)
    assert (parts.C, parts.max_iter, parts.random_state, parts.n_features_in_) == (0.5, 500, 3, 8)
    assert parts.classes_.tolist() == [0, 2, 4]
    assert train_on(stored, labelled, C=0.5, max_iter=2).n_iter_ == [2]
    alone = LabelledImages(index, 0 * y[index])
    with pytest.raises(InputError, match="the training set has 1 class"):
        train_on(stored, alone, C=0.5, max_iter=2)


@pytest.mark.parametrize("weighted", [False, True])
def test_with_a_kernel_it_is_linear_in_the_space_of_the_kernel(
    mixture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]], weighted: bool
) -> None:
    X, y, weight = mixture
    variances, directions = np.linalg.eigh(np.cov(X, rowvar=False))
    shrunk = (X - X.mean(axis=0)) @ directions / np.sqrt(1 + 64 * variances / variances.sum())
    shrunk /= np.sqrt(shrunk.var(axis=0, ddof=1).sum())
    index = np.arange(0, 90, 2)
    kernel = 1 / (1 + cdist(shrunk, shrunk[index], "sqeuclidean"))
    values, vectors = np.linalg.eigh(kernel[index] + 1e-4 * np.eye(45))
    space = (kernel - kernel[index].mean(axis=0)) @ vectors / np.sqrt(values)
    given = weight[index] if weighted else None
    expected = LogisticRegression(C=20, max_iter=500, tol=1e-8).fit(space[index], y[index], sample_weight=given)

    labelled = LabelledImages(index, y[index], given)
    model = train_on(X, labelled, kernel="rational-quadratic", C=20, max_iter=500, seed=3)
    np.testing.assert_allclose(score(model, X, 3), expected.predict_proba(space), atol=5e-3)
    np.testing.assert_allclose(model.predict_proba(X), score(model, X, 3), atol=1e-5)
    assert (model[-1].C, model[-1].random_state, model[-1].n_features_in_) == (20, 3, 45)


def test_a_kernel_draws_curved_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    angle, ring = rng.uniform(0, 2 * np.pi, 600), (np.arange(600) % 2).astype(np.uint8)
    circles = (1 + ring[:, None]) * np.column_stack([np.cos(angle), np.sin(angle)])
    X = (circles + rng.normal(0, 0.1, circles.shape)).astype(np.float32)
    index = np.arange(100)
    labelled = LabelledImages(index, ring[index])
    straight = score(train_on(X, labelled, C=100, max_iter=100), X, 2)
    curved = score(train_on(X, labelled, kernel="rational-quadratic", C=100, max_iter=100), X, 2)
    assert (straight.argmax(axis=1) == ring)[100:].mean() < 0.7
    assert (curved.argmax(axis=1) == ring)[100:].mean() > 0.99
    judged = out_of_fold(X[index], labelled.label, 2, kernel="rational-quadratic", C=100, max_iter=100, seed=0)
    assert (judged.argmax(axis=1) == labelled.label).mean() > 0.95

    # The same from a file that is read part by part.
    monkeypatch.setattr(blocks, "MOST_ROWS_WHOLE", 20)
    monkeypatch.setattr(blocks, "ROWS_PER_PARTITION", 64)
    np.save(tmp_path / "X.npy", X)
    stored = Stored.of(np.load(tmp_path / "X.npy", mmap_mode="r"))
    scratch = tmp_path / "scratch.npy"
    parts = train_on(stored, labelled, kernel="rational-quadratic", C=100, max_iter=100, scratch=scratch)
    np.testing.assert_allclose(score(parts, stored, 2), curved, atol=5e-3)


def test_what_was_bought_is_compared_with_before_what_took_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "N_LANDMARKS", 4)
    label = np.zeros(8, np.uint8)
    weight = np.array([0.5, 1, 0.6, 1, 0.2, 0.6, 0.6, 0.6], np.float32)
    assert choose_landmarks(LabelledImages(np.arange(10, 18), label, weight)).tolist() == [11, 12, 13, 16]
    assert choose_landmarks(LabelledImages(np.arange(10, 18), label)).tolist() == [10, 12, 14, 16]
    assert choose_landmarks(LabelledImages(np.arange(3), label[:3], weight[:3])).tolist() == [0, 1, 2]


def test_it_stops_where_it_is_told_to_and_warns_of_nothing() -> None:
    X = np.random.default_rng(0).random((30, 5), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = train(X, np.arange(30, dtype=np.uint8), C=1, max_iter=2)
    assert model.n_iter_.tolist() == [2]


@pytest.mark.parametrize("weighted", [False, True])
def test_each_fold_is_judged_by_the_others(
    mixture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]],
    weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logistic_regression, "N_FOLD_COMPONENTS", 6)
    X, y, weight = mixture
    components = fit_components(X, 6).transform(X)
    expected = np.zeros((90, 4))
    for shown, held_out in StratifiedKFold(5, shuffle=True, random_state=1).split(components, y):
        model = train(components[shown], y[shown], weight=weight[shown] if weighted else None, C=0.5, max_iter=60)
        expected[held_out, :3] = model.predict_proba(components[held_out])
    found = out_of_fold(X, y, 4, C=0.5, max_iter=60, seed=1, weight=weight if weighted else None)
    assert found.shape == (90, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_of_each_of_two_classes_are_enough_to_judge() -> None:
    X = np.array([[0, 1], [5, 5], [0, 0], [5, 6]], np.float32)
    y = np.array([0, 1, 0, 1], np.uint8)
    scores = out_of_fold(X, y, 2, C=1, max_iter=20, seed=0)
    np.testing.assert_array_equal(scores.argmax(axis=1), y)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_one_class_is_too_few() -> None:
    said = "^the training set has 1 class, allowed are 2 or more: buy more labels$"
    with pytest.raises(InputError, match=said):
        train(np.zeros((5, 784), np.float32), np.full(5, 3, np.uint8), C=0.1, max_iter=10, seed=0)


def test_a_class_that_was_not_bought_scores_nothing() -> None:
    X = np.random.default_rng(0).random((30, 20), np.float32)
    model = train(X, np.repeat(np.array([1, 4, 8], np.uint8), 10), C=1, max_iter=10, seed=0)
    scores = score(model, X, n_classes=10)
    assert scores.shape == (30, 10)
    np.testing.assert_allclose(scores[:, [1, 4, 8]].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(X))
    assert score(model, X[:0], n_classes=10).shape == (0, 10)


def test_a_label_counts_as_much_as_its_weight_in_the_training_set_says(recipe_run: Clone) -> None:
    data = recipe_run.path / "data"
    features = np.load(data / "train_features.npy")
    labelled = load_labelled(data / "training_set.csv", len(features), 10)
    assert labelled.weight is not None
    assert labelled.weight.min() < 0.9
    settings = yaml.safe_load((recipe_run.path / "params.yaml").read_text())["train_logreg"]
    weighted, unweighted = (
        score(train_on(features, LabelledImages(labelled.index, labelled.label, weight), **settings), features, 10)
        for weight in (labelled.weight, None)
    )
    model = joblib.load(recipe_run.path / "models" / "logreg.joblib")
    np.testing.assert_allclose(score(model, features, 10), weighted, atol=1e-4)
    assert np.abs(weighted - unweighted).max() > 0.01


def test_the_file_serves_a_scikit_learn_user(small_run: Clone) -> None:
    model = joblib.load(small_run.path / "models" / "logreg.joblib")
    features = np.load(small_run.path / "data" / "test_features.npy")
    assert set(model.predict(features)) <= set(range(10))
