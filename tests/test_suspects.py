"""Wrong labels lead the list, and no label vouches for itself."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from few_labels.images import to_pixel_vectors
from few_labels.logistic_regression import out_of_fold, train
from few_labels.suspects import rank_suspects
from tests.conftest import read_images, read_labels


def judge(
    X: NDArray[np.float32], y: NDArray[np.uint8], seed: int, weight: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    return out_of_fold(X, y, len(np.bincount(y)), C=0.3, max_iter=100, seed=seed, weight=weight)


def digits(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    images, labels = load_digits(return_X_y=True)
    rows = np.random.default_rng(seed).choice(len(images), n, replace=False)
    return (images[rows] / 16).astype(np.float32), labels[rows].astype(np.uint8)


def test_importing_it_loads_nothing_but_numpy() -> None:
    script = "import sys, few_labels.suspects; sys.exit(bool({'scipy', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_lead_the_list(seed: int) -> None:
    X, label = digits(500, seed)
    rng = np.random.default_rng(seed)
    planted = rng.choice(500, 25, replace=False)
    label[planted] = (label[planted] + rng.integers(1, 10, 25)) % 10
    order, _ = rank_suspects(judge(X, label, seed=seed), label)
    assert np.isin(planted, order[:25]).sum() >= 18
    assert np.isin(planted, order[:50]).sum() >= 23


def test_planted_wrong_labels_of_real_images_lead_the_list(idx_folder: Path) -> None:
    """Five in a hundred of 500 labels are wrong: most of them stand among the first 50."""
    X, label = to_pixel_vectors(read_images(idx_folder)[:500]), read_labels(idx_folder)[:500].copy()
    rng = np.random.default_rng(0)
    planted = rng.choice(500, 25, replace=False)
    label[planted] = (label[planted] + rng.integers(1, 10, 25)) % 10
    order, _ = rank_suspects(judge(X, label, seed=0), label)
    assert np.isin(planted, order[:50]).sum() >= 13


def test_what_only_tells_rows_apart_answers_at_chance() -> None:
    X = np.eye(300, dtype=np.float32)
    y = np.random.default_rng(0).integers(4, size=300).astype(np.uint8)
    assert (train(X, y, C=1e4, max_iter=1000).predict(X) == y).all()
    scores = out_of_fold(X, y, 10, C=1e4, max_iter=1000, seed=0)
    assert (scores.argmax(axis=1) == y).mean() == pytest.approx(0.25, abs=0.08)


def test_the_same_seed_gives_the_same_probabilities() -> None:
    X, label = digits(200, 0)
    first, again, other = (judge(X, label, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.float32
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-5)


def test_a_sample_of_no_weight_teaches_nothing() -> None:
    X, label = digits(400, 0)
    weight = np.ones(400, np.float32)
    mislabelled = np.arange(0, 400, 2)
    noisy = label.copy()
    noisy[mislabelled] = (label[mislabelled] + 1) % 10
    weight[mislabelled] = 0
    right = [(judge(X, noisy, seed=0, weight=given).argmax(axis=1) == label).mean() for given in (None, weight)]
    assert right[1] > 0.9 > right[0]


def test_a_rare_class_does_not_fail_and_a_lone_member_is_not_judged() -> None:
    X, label = digits(200, 0)
    few, lone = np.flatnonzero(label == 8)[2:], np.flatnonzero(label == 9)[1:]
    kept = np.delete(np.arange(200), np.concatenate([few, lone]))
    X, label = X[kept], label[kept]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = judge(X, label, seed=0)
    judged = scores.any(axis=1)
    np.testing.assert_array_equal(judged, label != 9)
    np.testing.assert_allclose(scores[judged].sum(axis=1), 1, atol=1e-5)
    assert not np.isin(np.flatnonzero(~judged), rank_suspects(scores, label)[0]).any()


@pytest.mark.parametrize(
    "label", [[], [0], [0, 0], [0, 1], [0, 1, 2, 3], [3, 3, 3, 3, 3, 3], [0, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 2, 2]]
)
@pytest.mark.parametrize("n_features", [1, 7])
def test_too_few_labels_give_no_crash(label: list[int], n_features: int) -> None:
    y = np.array(label, np.uint8)
    X = np.random.default_rng(0).random((len(y), n_features), np.float32)
    scores = judge(X, y, seed=0)
    assert scores.shape == (len(y), max(label, default=-1) + 1)
    assert np.isfinite(scores).all()
    if len(set(label)) < 2 or len(set(label)) == len(label):
        assert not scores.any()
    order, quality = rank_suspects(scores, y)
    assert len(order) == len(quality)


def test_suspects_are_the_contradicted_labels_surest_first() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0, 0], [0.5, 0.5], [0.6, 0.4]], np.float32)
    order, quality = rank_suspects(scores, np.array([0, 0, 0, 1, 1, 1], np.uint8))
    assert order.tolist() == [2, 1, 5]
    assert (order.dtype, quality.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(quality, np.array([0.05, 0.4, 0.4], np.float32))


def test_suspects_alike_stand_in_the_order_of_their_rows() -> None:
    scores = np.tile(np.array([[0.2, 0.8], [0.1, 0.9]], np.float32), (200, 1))
    order, _ = rank_suspects(scores, np.zeros(400, np.uint8))
    assert order.tolist() == [*range(1, 400, 2), *range(0, 400, 2)]


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_identical_images_give_no_crash() -> None:
    X, y = np.ones((20, 5), np.float32), np.arange(20, dtype=np.uint8) % 2
    np.testing.assert_allclose(judge(X, y, seed=0), 0.5, atol=1e-3)
