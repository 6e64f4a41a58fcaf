"""Logistic regression learns, and says what it cannot learn from."""

from pathlib import Path

import joblib
import numpy as np
import pytest

from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors
from few_labels.logistic_regression import score, train
from tests.conftest import Clone, read_images, read_labels


def test_it_learns_from_real_images(idx_folder: Path) -> None:
    images, labels = to_pixel_vectors(read_images(idx_folder)[:4000]), read_labels(idx_folder)[:4000]
    model = train(images[:3000], labels[:3000], C=0.1, max_iter=100, seed=0)
    assert model.coef_.shape == (10, 784)
    assert model.score(images[3000:], labels[3000:]) > 0.78


def test_one_class_is_too_few() -> None:
    with pytest.raises(InputError, match="1 class, allowed are 2 or more"):
        train(np.zeros((5, 784), np.float32), np.full(5, 3, np.uint8), C=0.1, max_iter=10, seed=0)


def test_a_class_that_was_not_bought_scores_nothing() -> None:
    X = np.random.default_rng(0).random((30, 20), np.float32)
    model = train(X, np.repeat(np.array([1, 4, 8], np.uint8), 10), C=1, max_iter=10, seed=0)
    scores = score(model, X, n_classes=10)
    assert scores.shape == (30, 10)
    np.testing.assert_allclose(scores[:, [1, 4, 8]].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(X))
    assert score(model, X[:0], n_classes=10).shape == (0, 10)


def test_the_file_serves_a_scikit_learn_user(small_run: Clone) -> None:
    model = joblib.load(small_run.path / "models" / "logreg.joblib")
    features = np.load(small_run.path / "data" / "test_features.npy")
    assert set(model.predict(features)) <= set(range(10))
