"""Labels are bought as the strategy says, none but those asked for are read, and queries go on from what is known."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from few_labels.artifacts import Classes, Clustering, LabelledImages
from few_labels.errors import InputError
from few_labels.logistic_regression import score, train
from few_labels.parameters import TrainLogreg
from few_labels.query import Pool, Strategy, draw_audit, plan_rounds, query
from stages.select_labels import buy_known, choose_n_audit, draw_contact_sheet, interleave, label_rows, list_queries
from tests.conftest import Clone

NOTHING = np.empty(0, np.int64)
NOBODY = LabelledImages(NOTHING, np.empty(0, np.uint8))


def logreg(C: float, max_iter: int) -> TrainLogreg:
    return TrainLogreg(kernel="none", C=C, max_iter=max_iter)


@pytest.fixture
def pool() -> Pool:
    """Forty images in clusters of 20, 15 and 5; the last cluster is empty."""
    cluster = np.repeat([0, 1, 2], [20, 15, 5]).astype(np.int32)
    distance = np.random.default_rng(0).permutation(40).astype(np.float32)
    representative = np.array(
        [np.flatnonzero(cluster == c)[np.argmin(distance[cluster == c])] for c in range(3)] + [-1]
    )
    X = np.random.default_rng(1).random((40, 4), np.float32)
    return Pool(40, Clustering(cluster, distance, representative), lambda: X, logreg(1.0, 50), seed=0)


def test_representatives_come_first_the_largest_cluster_before_the_others(pool: Pool) -> None:
    assert pool.clustering is not None
    order = query(Strategy.REPRESENTATIVE, pool, NOBODY, NOTHING, 40)
    np.testing.assert_array_equal(order[:3], pool.clustering.representative[:3])
    assert pool.clustering.cluster[order[3:6]].tolist() == [0, 1, 2]
    assert sorted(order) == list(range(40))
    for cluster in range(3):
        distance = pool.clustering.distance_to_centroid[order[pool.clustering.cluster[order] == cluster]]
        assert (np.diff(distance) > 0).all()


@pytest.mark.parametrize("strategy", Strategy)
def test_no_strategy_asks_twice_or_for_an_audit_image(pool: Pool, strategy: Strategy) -> None:
    truth = (np.arange(40) % 3).astype(np.int16)
    asked, known = np.array([5, 17, 33]), NOBODY
    n_wanted = 40 if strategy is Strategy.ALL else 8
    while len(rows := query(strategy, pool, known, asked, n_wanted)):
        assert len(rows) <= n_wanted
        assert not np.isin(rows, asked).any()
        assert len(np.unique(rows)) == len(rows)
        asked = np.concatenate([asked, rows])
        index = np.setdiff1d(asked, [5, 17, 33])
        known = label_rows(index, truth[index], 3)
    assert sorted(asked) == list(range(40))


@pytest.mark.parametrize("strategy", Strategy)
def test_a_budget_is_spent_and_never_exceeded(pool: Pool, strategy: Strategy) -> None:
    truth = (np.arange(40) % 3).astype(np.int16)
    bought = buy_known(pool, strategy, truth, 3, n_labels=12, n_rounds=3, audit=np.array([1, 2]))
    assert len(bought.index) == (38 if strategy is Strategy.ALL else 12)
    assert not np.isin(bought.index, [1, 2]).any()
    np.testing.assert_array_equal(bought.label, truth[bought.index])
    assert len(buy_known(pool, strategy, truth, 3, n_labels=500, n_rounds=3, audit=NOTHING).index) == 40


@pytest.mark.parametrize("strategy", Strategy)
def test_no_strategy_looks_at_a_label_that_it_has_not_bought(pool: Pool, strategy: Strategy) -> None:
    """With every other label replaced by another class the same labels are bought."""
    truth = (np.arange(40) % 3).astype(np.int16)
    bought = buy_known(pool, strategy, truth, 3, n_labels=12, n_rounds=3, audit=NOTHING)
    nonsense = (truth + 1) % 3
    nonsense[bought.index] = truth[bought.index]
    again = buy_known(pool, strategy, nonsense, 3, n_labels=12, n_rounds=3, audit=NOTHING)
    np.testing.assert_array_equal(again.index, bought.index)


def test_an_image_that_nobody_knows_costs_nothing(pool: Pool) -> None:
    truth = np.where(np.arange(40) % 2, -1, np.arange(40) % 3).astype(np.int16)
    bought = buy_known(pool, Strategy.REPRESENTATIVE, truth, 3, n_labels=12, n_rounds=3, audit=NOTHING)
    assert len(bought.index) == 12
    assert (bought.index % 2 == 0).all()
    with pytest.raises(InputError, match=r"none of the 40 images asked about has a known label: .* make label"):
        buy_known(pool, Strategy.RANDOM, np.full(40, -1, np.int16), 3, n_labels=12, n_rounds=3, audit=NOTHING)


def test_first_is_first_and_all_is_all(pool: Pool) -> None:
    assert query(Strategy.FIRST, pool, NOBODY, NOTHING, 5).tolist() == [0, 1, 2, 3, 4]
    assert query(Strategy.ALL, pool, NOBODY, NOTHING, 5).tolist() == list(range(40))


def test_random_is_uniform_without_replacement_and_repeatable() -> None:
    def draw(seed: int) -> np.ndarray:
        return query(Strategy.RANDOM, Pool(1000, None, None, logreg(1.0, 1), seed), NOBODY, NOTHING, 100)

    draws = [draw(seed) for seed in range(200)]
    assert all(len(np.unique(drawn)) == 100 for drawn in draws)
    np.testing.assert_array_equal(draws[3], draw(3))
    # 20,000 draws over ten tenths of the images: 2,000 each, 5 standard deviations either way.
    tenths = np.bincount(np.concatenate(draws) // 100)
    assert np.abs(tenths - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_random_draws_from_the_seed_and_anew_each_round(pool: Pool) -> None:
    pool = replace(pool, clustering=None, embedding=None, seed=7)
    drawn = query(Strategy.RANDOM, pool, NOBODY, NOTHING, 10)
    np.testing.assert_array_equal(drawn, np.random.default_rng(7).choice(40, 10, replace=False))
    again = query(Strategy.RANDOM, pool, NOBODY, drawn, 10)
    left = np.setdiff1d(np.arange(40), drawn)
    np.testing.assert_array_equal(again, np.random.default_rng((7, 10)).choice(left, 10, replace=False))


@pytest.mark.parametrize(
    ("strategy", "n_labels", "n_rounds", "totals"),
    [
        (Strategy.MARGIN, 12, 3, [3, 6, 9, 12]),
        (Strategy.MARGIN, 10, 4, [3, 5, 7, 9, 10]),
        (Strategy.MARGIN, 2, 2, [2, 2, 2]),
        (Strategy.REPRESENTATIVE, 12, 3, [12]),
        (Strategy.RANDOM, 12, 3, [12]),
        (Strategy.FIRST, 12, 3, [12]),
        (Strategy.ALL, 12, 3, [40]),
    ],
)
def test_a_budget_is_planned(pool: Pool, strategy: Strategy, n_labels: int, n_rounds: int, totals: list[int]) -> None:
    assert plan_rounds(strategy, pool, n_labels, n_rounds) == totals


def test_of_clusters_alike_the_first_is_asked_about_first_and_so_is_the_first_of_images_alike() -> None:
    cluster = np.array([2, 0, 1, 2, 1, 0, 3, 3, 3], np.int32)
    pool = Pool(9, Clustering(cluster, np.ones(9, np.float32), NOTHING), None, logreg(1.0, 1), seed=0)
    assert query(Strategy.REPRESENTATIVE, pool, NOBODY, NOTHING, 9).tolist() == [6, 1, 2, 0, 7, 5, 4, 3, 8]


def test_margins_are_asked_about_in_the_order_of_the_definition(pool: Pool) -> None:
    pool = replace(pool, train_logreg=logreg(20.0, 50))
    assert pool.clustering is not None
    assert pool.embedding is not None
    X = pool.embedding()[:]
    labels = np.where(X[:, 0] + X[:, 1] > 1, 4, np.where(X[:, 2] > 0.5, 1, 0)).astype(np.int16)
    asked = np.union1d(query(Strategy.REPRESENTATIVE, pool, NOBODY, NOTHING, 15), [38])
    known = label_rows(asked[asked != 38], labels[asked[asked != 38]], 5)

    probability = np.sort(score(train(X[known.index], known.label, C=20.0, max_iter=50), X, 5), axis=1)
    margin = probability[:, -1] - probability[:, -2]
    hardest_first = [row for row in np.argsort(margin) if row not in asked]
    first_of_cluster = {int(pool.clustering.cluster[row]): row for row in reversed(hardest_first)}
    leading = [row for row in hardest_first if row in first_of_cluster.values()]
    expected = leading + [row for row in hardest_first if row not in leading]

    assert query(Strategy.MARGIN, pool, known, asked, 40).tolist() == expected
    assert query(Strategy.MARGIN, pool, known, asked, 5).tolist() == expected[:5]


def test_margins_wait_until_all_representatives_are_known(pool: Pool) -> None:
    assert pool.clustering is not None
    asked = query(Strategy.MARGIN, pool, NOBODY, NOTHING, 40)
    np.testing.assert_array_equal(asked, pool.clustering.representative[:3])


def test_of_images_in_equal_doubt_the_first_is_asked_about_first() -> None:
    X = np.tile(np.array([[0, 0], [1, 2]], np.float32), (200, 1))
    X[2:] = 0.5, 1
    clustering = Clustering(np.zeros(400, np.int32), np.arange(400, dtype=np.float32), np.array([0]))
    pool = Pool(400, clustering, lambda: X, logreg(1.0, 20), seed=0)
    known = label_rows(np.array([0, 1]), np.array([0, 1], np.int16), 2)
    assert query(Strategy.MARGIN, pool, known, known.index, 400).tolist() == list(range(2, 400))


def test_what_a_strategy_cannot_choose_without_is_named(pool: Pool) -> None:
    with pytest.raises(InputError, match=r"^the strategy chooses from a clustering, and none was given$"):
        query(Strategy.REPRESENTATIVE, replace(pool, clustering=None), NOBODY, NOTHING, 5)
    known = label_rows(np.arange(40), (np.arange(40) % 2).astype(np.int16), 2)
    asked = query(Strategy.REPRESENTATIVE, pool, NOBODY, NOTHING, 3)
    with pytest.raises(
        InputError, match=r"^strategy margin chooses by a clustering and an embedding, and one was not given$"
    ):
        query(Strategy.MARGIN, replace(pool, embedding=None), known, asked, 5)


def test_audit_images_are_those_with_the_smallest_hashes() -> None:
    names = [f"train/{row:05}" for row in range(300)]
    hashes = [hashlib.blake2b(f"5/{name}".encode(), digest_size=8).digest() for name in names]
    assert draw_audit(names, 20, seed=5).tolist() == sorted(range(300), key=hashes.__getitem__)[:20]
    assert len(draw_audit(names, 1, seed=5)) == 1
    assert draw_audit(names, 0, seed=5).dtype == np.int64


def test_audit_images_are_a_uniform_draw_that_lasts_while_a_folder_grows() -> None:
    names = [f"train/{row:05}" for row in range(1000)]
    draws = [draw_audit(names, 100, seed) for seed in range(200)]
    tenths = np.bincount(np.concatenate(draws) // 100)
    assert np.abs(tenths - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)
    grown = draw_audit(names + [f"train/new{row}" for row in range(100)], 100, seed=0)
    assert len(np.intersect1d(grown, draws[0])) > 80
    assert len(draw_audit(names, 0, 0)) == 0


@pytest.mark.parametrize(("n_images", "n_test", "n_audit"), [(60_000, 10_000, 0), (60_000, 0, 100), (150, 0, 30)])
def test_the_audit_is_for_those_without_a_test_set(n_images: int, n_test: int, n_audit: int) -> None:
    assert choose_n_audit("auto", Classes(["a"], [28, 28, 1], n_test), n_images) == n_audit


def test_an_audit_of_all_images_is_refused() -> None:
    assert choose_n_audit(39, Classes(["a"], [28, 28, 1], 0), 40) == 39
    with pytest.raises(InputError, match="n_audit is 40, allowed are auto and 0 to 39"):
        choose_n_audit(40, Classes(["a"], [28, 28, 1], 0), 40)


def test_every_fourth_query_is_for_the_audit() -> None:
    assert interleave(np.arange(7), 100 + np.arange(2)).tolist() == [0, 1, 2, 100, 3, 4, 5, 101, 6]
    assert interleave(np.arange(1), 100 + np.arange(3)).tolist() == [0, 100, 101, 102]
    assert interleave(NOTHING, NOTHING).tolist() == []


def test_a_query_shows_a_guess_but_not_for_the_audit(pool: Pool) -> None:
    names = [f"train/{row}.png" for row in range(40)]
    known = label_rows(np.arange(10), (np.arange(10) % 2).astype(np.int16), 2)
    table = list_queries(pool, names, ["cat", "dog"], known, np.array([20, 30, 39]), audit=np.array([30]))
    assert list(table.columns) == ["image", "cluster", "guess", "sureness", "audit"]
    assert table["image"].tolist() == ["train/20.png", "train/30.png", "train/39.png"]
    assert table["audit"].tolist() == [False, True, False]
    assert set(table["guess"][[0, 2]]) <= {"cat", "dog"}
    assert 0.5 <= float(table["sureness"][0]) <= 1
    assert (table["guess"][1], table["sureness"][1]) == ("", "")
    assert (list_queries(pool, names, ["cat"], NOBODY, np.array([20]), NOTHING)["guess"] == "").all()


@pytest.mark.parametrize("strategy", ["representative", "random", "first", "margin"])
def test_the_stage_reads_the_rows_that_it_buys_and_no_others(recipe_run: Clone, tmp_path: Path, strategy: str) -> None:
    """With every other label replaced by nonsense the same labels are bought."""
    clone = recipe_run.copy_to(tmp_path / "clone")
    clone.set_params({"select_labels.strategy": strategy})
    clone.dvc("repro", "select-labels")
    before = (clone.path / "data" / "bought_labels.csv").read_bytes()
    labels = np.load(clone.path / "data" / "train_labels.npy")
    bought = pd.read_csv(clone.path / "data" / "bought_labels.csv")["index"]
    nonsense = np.full_like(labels, 99)
    nonsense[bought] = labels[bought]
    np.save(clone.path / "data" / "nonsense.npy", nonsense)

    command = clone.lock()["stages"]["select-labels"]["cmd"]
    clone.call("sh", "-c", command.replace("data/train_labels.npy", "data/nonsense.npy"))

    assert (clone.path / "data" / "bought_labels.csv").read_bytes() == before


def test_margins_are_bought_one_a_cluster_where_the_classifier_is_in_doubt() -> None:
    """Two classes side by side: all but the representatives are bought near the line between them."""
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (2000, 2)).astype(np.float32)
    labels = (X[:, 0] > 0).astype(np.int16)
    cluster = (10 * np.floor(5 * (X[:, 1] + 1)) + np.floor(5 * (X[:, 0] + 1))).clip(0, 99).astype(np.int32)
    representative = np.array([np.flatnonzero(cluster == c)[0] for c in range(100)])
    distance = np.ones(2000, np.float32)
    distance[representative] = 0
    pool = Pool(2000, Clustering(cluster, distance, representative), lambda: X, logreg(0.3, 100), seed=0)

    chosen = buy_known(pool, Strategy.MARGIN, labels, 2, n_labels=180, n_rounds=8, audit=NOTHING).index

    assert len(np.unique(chosen)) == 180
    assert (np.diff(chosen) > 0).all()
    assert set(representative) <= set(chosen)
    added = np.setdiff1d(chosen, representative)
    assert np.abs(X[added, 0]).mean() < 0.15


def test_margins_wait_for_a_second_class(pool: Pool) -> None:
    known = label_rows(np.arange(40), np.where(np.arange(40) < 30, 0, -1).astype(np.int16), 2)
    asked = np.union1d(known.index, query(Strategy.REPRESENTATIVE, pool, NOBODY, NOTHING, 3))
    expected = query(Strategy.REPRESENTATIVE, pool, known, asked, 4)
    np.testing.assert_array_equal(query(Strategy.MARGIN, pool, known, asked, 4), expected)


def test_the_contact_sheet_says_when_it_does_not_show_all() -> None:
    labels = np.zeros(300, np.uint8)
    sheet = draw_contact_sheet(np.zeros((300, 28, 28, 1), np.uint8), labels, ["a", "b"])
    assert "at most 250 of a class shown" in sheet.get_suptitle()
    assert "at most" not in draw_contact_sheet(np.zeros((9, 28, 28, 3), np.uint8), labels[:9], ["a"]).get_suptitle()


def test_the_contact_sheet_shows_the_classes_with_the_most_labels() -> None:
    labels = np.repeat(np.arange(60, dtype=np.uint8), 2)
    sheet = draw_contact_sheet(np.zeros((120, 8, 8, 1), np.uint8), labels, [f"class {c}" for c in range(60)])
    assert "40 of 60 classes shown" in sheet.get_suptitle()
    assert len(sheet.axes) == 40
    assert "0 images" in draw_contact_sheet(np.zeros((0, 8, 8, 1), np.uint8), labels[:0], []).get_suptitle()
