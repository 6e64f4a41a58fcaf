"""Labels are bought as the strategy says, and none but those are read."""

from pathlib import Path

import numpy as np
import pytest

from few_labels.artifacts import Clustering
from few_labels.errors import InputError
from stages.select_labels import Strategy, choose, choose_by_margin, draw_contact_sheet
from tests.conftest import Clone

REPRESENTATIVE = np.array([30, -1, 4, 17])


@pytest.mark.parametrize(
    ("strategy", "chosen"),
    [
        (Strategy.REPRESENTATIVE, [4, 17, 30]),
        (Strategy.FIRST, [0, 1, 2, 3, 4]),
        (Strategy.ALL, list(range(40))),
    ],
)
def test_a_strategy_chooses(strategy: Strategy, chosen: list[int]) -> None:
    assert choose(strategy, REPRESENTATIVE, n_images=40, n_labels=5, seed=0).tolist() == chosen


def test_random_is_uniform_without_replacement_and_repeatable() -> None:
    draws = [choose(Strategy.RANDOM, REPRESENTATIVE, 1000, 100, seed) for seed in range(200)]
    assert all(len(np.unique(draw)) == 100 for draw in draws)
    np.testing.assert_array_equal(draws[3], choose(Strategy.RANDOM, REPRESENTATIVE, 1000, 100, seed=3))
    # 20,000 draws over ten tenths of the images: 2,000 each, 5 standard deviations either way.
    tenths = np.bincount(np.concatenate(draws) // 100)
    assert np.abs(tenths - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.FIRST])
def test_more_labels_than_images_cannot_be_bought(strategy: Strategy) -> None:
    with pytest.raises(InputError, match="n_labels is 41, allowed are 1 to 40"):
        choose(strategy, REPRESENTATIVE, n_images=40, n_labels=41, seed=0)


def test_only_the_bought_rows_of_the_labels_matter(clone: Clone) -> None:
    """With every other label replaced by nonsense the same labels are bought."""
    labels = np.load(clone.path / "data" / "train_labels.npy")
    bought = np.loadtxt(clone.path / "data" / "bought_labels.csv", delimiter=",", skiprows=1, dtype=int)
    nonsense = np.full_like(labels, 255)
    nonsense[bought[:, 0]] = labels[bought[:, 0]]
    np.save(clone.path / "data" / "nonsense.npy", nonsense)
    before = (clone.path / "data" / "bought_labels.csv").read_bytes()

    clone.call(
        *("python", "-m", "stages.select_labels", "--strategy", "representative", "--n_labels", "1", "--seed", "42"),
        *("--clustering", "data/clustering.npz", "--images", "data/train_images.npy", "--labels", "data/nonsense.npy"),
        *("--bought", "data/bought_labels.csv", "--contact-sheet", "sheet.png"),
    )

    assert (clone.path / "data" / "bought_labels.csv").read_bytes() == before


def test_margins_are_bought_one_a_cluster_where_the_classifier_is_in_doubt() -> None:
    """Two classes side by side: all but the representatives are bought near the line between them."""
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (2000, 2)).astype(np.float32)
    labels = (X[:, 0] > 0).astype(np.uint8)
    cluster = (10 * np.floor(5 * (X[:, 1] + 1)) + np.floor(5 * (X[:, 0] + 1))).clip(0, 99).astype(np.int32)
    representative = np.array([np.flatnonzero(cluster == c)[0] for c in range(100)])
    clustering = Clustering(cluster, np.zeros(2000, np.float32), representative)

    chosen = choose_by_margin(X, clustering, labels, n_labels=180, seed=0)

    assert len(np.unique(chosen)) == 180
    assert (np.diff(chosen) > 0).all()
    assert set(representative) <= set(chosen)
    added = np.setdiff1d(chosen, representative)
    assert np.abs(X[added, 0]).mean() < 0.15


@pytest.mark.parametrize("n_labels", [4, 51])
def test_margins_need_a_budget_for_the_representatives_and_no_more_than_the_images(n_labels: int) -> None:
    clustering = Clustering(np.arange(50, dtype=np.int32) % 5, np.zeros(50, np.float32), np.arange(5))
    labels = np.arange(50, dtype=np.uint8) % 2
    with pytest.raises(InputError, match=f"n_labels is {n_labels}, allowed are 5 to 50"):
        choose_by_margin(np.random.default_rng(0).random((50, 3), np.float32), clustering, labels, n_labels, seed=0)


def test_margins_read_the_bought_rows_of_the_labels_and_no_others(recipe_run: Clone, tmp_path: Path) -> None:
    clone = recipe_run.copy_to(tmp_path / "clone")
    labels = np.load(clone.path / "data" / "train_labels.npy")
    before = (clone.path / "data" / "bought_labels.csv").read_bytes()
    bought = np.loadtxt(clone.path / "data" / "bought_labels.csv", delimiter=",", skiprows=1, dtype=int)
    nonsense = np.full_like(labels, 255)
    nonsense[bought[:, 0]] = labels[bought[:, 0]]
    np.save(clone.path / "data" / "nonsense.npy", nonsense)

    clone.call(
        *("python", "-m", "stages.select_labels", "--strategy", "margin", "--n_labels", "60", "--seed", "42"),
        *("--clustering", "data/clustering.npz", "--embedding", "data/train_embedding.npy"),
        *("--images", "data/train_images.npy", "--labels", "data/nonsense.npy", "--bought", "data/bought_labels.csv"),
    )

    assert (clone.path / "data" / "bought_labels.csv").read_bytes() == before


def test_the_contact_sheet_says_when_it_does_not_show_all() -> None:
    labels = np.zeros(300, np.uint8)
    sheet = draw_contact_sheet(np.zeros((300, 28, 28), np.uint8), labels)
    assert "at most 250 of a class shown" in sheet.get_suptitle()
    assert "at most" not in draw_contact_sheet(np.zeros((9, 28, 28), np.uint8), labels[:9]).get_suptitle()
