"""Labels spread by the definition: within each cluster, to the images inside its own percentile of distance."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from few_labels import blocks
from few_labels import graph as graph_module
from few_labels.artifacts import Clustering, LabelledImages
from few_labels.graph import find_nearest, join_neighbours, spread_over_graph
from few_labels.parameters import Kernel, SpreadingMethod, TrainLogreg
from few_labels.propagation import keep_surest, leave_out, score_classes, spread_over_clusters
from few_labels.stored import Stored
from tests.conftest import Clone


def random_clustering(seed: int, n_images: int = 400, n_clusters: int = 12) -> Clustering:
    random = np.random.default_rng(seed)
    cluster = random.integers(0, n_clusters, n_images).astype(np.int32)
    # Rounded, so that distances tie.
    distance = random.uniform(1, 3, n_images).round(1).astype(np.float32)
    members = [np.flatnonzero(cluster == c) for c in range(n_clusters)]
    return Clustering(cluster, distance, np.array([m[np.argmin(distance[m])] for m in members]))


def buy(indices: np.ndarray, seed: int) -> LabelledImages:
    indices = np.sort(indices)
    return LabelledImages(indices, np.random.default_rng(seed).integers(0, 10, len(indices)).astype(np.uint8))


def propagate_by_definition(clustering: Clustering, bought: LabelledImages, percentile: float) -> dict[int, int]:
    label_of = dict(zip(bought.index.tolist(), bought.label.tolist(), strict=True))
    result = dict(label_of)
    for c in np.unique(clustering.cluster):
        members = np.flatnonzero(clustering.cluster == c)
        sources = [image for image in members if image in label_of]
        if not sources or percentile == 0:
            continue
        label = label_of[min(sources, key=lambda image: clustering.distance_to_centroid[image])]
        threshold = np.percentile(clustering.distance_to_centroid[members].astype(np.float64), percentile)
        for image in members:
            if clustering.distance_to_centroid[image] <= threshold + 1e-9 and image not in label_of:
                result[int(image)] = label
    return result


@pytest.mark.parametrize("percentile", [0, 1, 20, 25, 50, 75, 99.5, 100])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strategy", ["representative", "random"])
def test_it_does_what_the_definition_says(percentile: float, seed: int, strategy: str) -> None:
    clustering = random_clustering(seed)
    chosen = {
        "representative": clustering.representative,
        "random": np.random.default_rng(seed).choice(400, 9, replace=False),
    }[strategy]
    bought = buy(chosen, seed)

    labelled = spread_over_clusters(clustering, bought, percentile)

    expected = propagate_by_definition(clustering, bought, percentile)
    assert dict(zip(labelled.index.tolist(), labelled.label.tolist(), strict=True)) == expected
    assert (np.diff(labelled.index) > 0).all()


def test_what_is_left_out_is_not_trained_on() -> None:
    labelled = LabelledImages(np.array([1, 4, 9]), np.array([0, 1, 2], np.uint8), np.array([1, 0.5, 0.2], np.float32))
    kept = leave_out(labelled, np.array([4, 7]))
    assert (kept.index.tolist(), kept.label.tolist()) == ([1, 9], [0, 2])
    assert kept.weight is not None
    np.testing.assert_allclose(kept.weight, [1, 0.2])


def test_percentile_0_leaves_the_bought_labels() -> None:
    bought = buy(np.array([3, 5, 250]), seed=1)
    labelled = spread_over_clusters(random_clustering(0), bought, 0)
    np.testing.assert_array_equal(labelled.index, bought.index)
    np.testing.assert_array_equal(labelled.label, bought.label)


def test_percentile_100_reaches_every_image_of_a_cluster_with_a_bought_label() -> None:
    clustering = random_clustering(0)
    assert len(spread_over_clusters(clustering, buy(clustering.representative, seed=1), 100).index) == 400


def test_a_true_label_is_never_overwritten() -> None:
    clustering = random_clustering(0)
    bought = buy(np.arange(400), seed=1)
    for percentile in (0, 25, 100):
        np.testing.assert_array_equal(spread_over_clusters(clustering, bought, percentile).label, bought.label)


def test_the_bought_image_nearest_the_centroid_labels_its_cluster() -> None:
    clustering = Clustering(np.zeros(4, np.int32), np.array([0.5, 1, 2, 3], np.float32), np.array([0]))
    bought = LabelledImages(np.array([1, 3]), np.array([7, 4], np.uint8))
    assert spread_over_clusters(clustering, bought, 100).label.tolist() == [7, 7, 7, 4]


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Two hundred points about each of ten far corners, and the corner of each."""
    random = np.random.default_rng(0)
    corner = np.repeat(np.arange(10, dtype=np.uint8), 200)
    return (5 * np.eye(10)[corner] + random.normal(0, 1, (2000, 10))).astype(np.float32), corner


def test_the_graph_joins_each_point_with_its_nearest_ones() -> None:
    X = np.random.default_rng(0).random((300, 5), np.float32)
    graph = join_neighbours(X, n_neighbours=4).toarray()
    distance = np.linalg.norm(X[:, None] - X[None], axis=2)
    nearest = np.argsort(distance, axis=1)[:, 1:5]
    joined = np.zeros((300, 300), bool)
    np.put_along_axis(joined, nearest, values=True, axis=1)
    np.testing.assert_array_equal(graph > 0, joined | joined.T)
    np.testing.assert_allclose(graph, graph.T)
    scale = np.take_along_axis(distance, nearest, axis=1)[:, -1]
    i, j = 0, nearest[0, 0]
    assert graph[i, j] == pytest.approx(np.exp(-(distance[i, j] ** 2) / (scale[i] * scale[j])), rel=1e-3)


def test_within_lists_nearly_all_of_the_nearest_are_found(
    blobs: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = blobs
    exact_squared, exact = find_nearest(X, 16)
    monkeypatch.setattr(blocks, "ROWS_PER_PARTITION", 170)
    for name, value in {"ROWS_PER_LIST": 25, "N_LISTS_SEARCHED": 16, "ROWS_PER_SEARCH": 150}.items():
        monkeypatch.setattr(graph_module, name, value)
    squared, nearest = find_nearest(store(tmp_path, X), 16, tmp_path / "lists.npy")
    found = [np.isin(a, b).mean() for a, b in zip(exact, nearest, strict=True)]
    assert 0.99 <= np.mean(found) < 1
    np.testing.assert_array_equal(nearest[:, 0], np.arange(len(X)))
    assert (squared[:, -1] >= exact_squared[:, -1] - 1e-3).all()
    np.testing.assert_allclose(squared, np.square(X[nearest] - X[:, None]).sum(axis=2), atol=1e-3)


def store(folder: Path, X: np.ndarray) -> Stored:
    """Have rows in a file."""
    np.save(folder / "X.npy", X)
    return Stored.of(np.load(folder / "X.npy", mmap_mode="r"))


def test_lists_that_are_empty_are_searched_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.repeat(np.random.default_rng(0).random((3, 4), np.float32), [300, 2, 298], axis=0)
    monkeypatch.setattr(graph_module, "ROWS_PER_LIST", 10)
    monkeypatch.setattr(graph_module, "N_LISTS_SEARCHED", 1)
    _, nearest = find_nearest(store(tmp_path, X), 5)
    assert nearest.min() >= 0
    assert [len(set(row)) for row in nearest.tolist()] == [5] * 600


def test_equal_images_are_joined_with_each_other_and_not_with_themselves() -> None:
    X = np.repeat(np.random.default_rng(0).random((20, 5), np.float32), 6, axis=0)
    graph = join_neighbours(X, n_neighbours=4)
    assert graph.diagonal().max() == 0
    assert (np.diff(graph.indptr) >= 4).all()


def test_more_neighbours_than_images_are_all_images() -> None:
    graph = join_neighbours(np.random.default_rng(0).random((4, 3), np.float32), n_neighbours=15)
    np.testing.assert_array_equal(graph.toarray() > 0, ~np.eye(4, dtype=bool))


def test_an_image_that_no_label_reaches_takes_none() -> None:
    """Two far islands, and a label on one of them."""
    X = np.concatenate([np.random.default_rng(0).random((20, 3)), 100 + np.random.default_rng(1).random((20, 3))])
    bought = LabelledImages(np.array([2, 7]), np.array([1, 3], np.uint8))
    scores = spread_over_graph(join_neighbours(X.astype(np.float32), 5), bought, n_classes=4, alpha=0.9, n_steps=50)
    assert (scores[20:] == 0).all()
    labelled = keep_surest(scores, bought, percentile=100)
    np.testing.assert_array_equal(labelled.index, np.arange(20))
    assert set(labelled.label) <= {1, 3}


def test_the_only_label_that_arrives_is_trusted_less_the_farther_it_came() -> None:
    chain = np.arange(30, dtype=np.float32)[:, None] ** 1.01
    bought = LabelledImages(np.array([0]), np.array([2], np.uint8))
    share = spread_over_graph(join_neighbours(chain, 2), bought, n_classes=3, alpha=0.9, n_steps=50)[:, 2]
    assert (np.diff(share) <= 0).all()
    assert share[5] < 0.5
    assert share[-1] < 0.01


def test_where_labels_of_one_class_alone_arrive_their_share_is_how_many_do() -> None:
    """Two bought images on one island, of which one gets more than the mean of the two; none on the other island."""
    points = np.concatenate([np.random.default_rng(0).random((20, 2)), 100 + np.random.default_rng(1).random((20, 2))])
    graph = join_neighbours(points.astype(np.float32), 4)
    bought = LabelledImages(np.array([2, 7]), np.array([1, 1], np.uint8))
    share = spread_over_graph(graph, bought, n_classes=3, alpha=0.8, n_steps=3)

    degree = graph.toarray().sum(axis=1)
    normalised = graph.toarray() / np.sqrt(degree[:, None] * degree)
    start = np.isin(np.arange(40), bought.index).astype(float)
    arrived = start
    for _ in range(3):
        arrived = 0.8 * normalised @ arrived + 0.2 * start
    assert share.dtype == np.float32
    np.testing.assert_allclose(share[:, 1], np.minimum(arrived / arrived[[2, 7]].mean(), 1), atol=1e-5)
    assert share[[2, 7], 1].max() == 1 > share[[2, 7], 1].min()
    assert not share[:, [0, 2]].any()


def test_labels_flow_along_the_graph_as_the_closed_form_says() -> None:
    graph = join_neighbours(np.random.default_rng(0).random((200, 3), np.float32), n_neighbours=5)
    bought = buy(np.arange(0, 200, 10), seed=1)
    start = np.zeros((200, 10))
    start[bought.index, bought.label] = 1
    degree = graph.toarray().sum(axis=1)
    normalised = graph.toarray() / np.sqrt(degree[:, None] * degree)
    expected = np.linalg.solve(np.eye(200) - 0.5 * normalised, start)
    flowed = spread_over_graph(graph, bought, n_classes=10, alpha=0.5, n_steps=50)
    np.testing.assert_allclose(flowed, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("method", ["graph", "logreg", "graph-and-logreg"])
@pytest.mark.parametrize("kernel", ["none", "rational-quadratic"])
def test_a_label_a_corner_reaches_all_of_it(
    method: SpreadingMethod, kernel: Kernel, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    X, corner = blobs
    index = np.arange(0, 2000, 100)
    bought = LabelledImages(index, corner[index])
    logreg = TrainLogreg(kernel=kernel, C=0.3 if kernel == "none" else 100.0, max_iter=100)
    scores = score_classes(X, bought, 10, method=method, n_neighbours=10, alpha=0.9, n_steps=50, train_logreg=logreg)
    assert scores.shape == (2000, 10)
    assert (scores >= 0).all()
    assert (scores.sum(axis=1) <= 1 + 1e-5).all()
    assert (scores.argmax(axis=1) == corner).mean() > 0.97


@pytest.mark.parametrize("percentile", [0, 30, 100])
def test_the_surest_of_each_label_keep_it(percentile: float) -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(10), 1000).astype(np.float32)
    bought = buy(np.arange(0, 1000, 50), seed=1)
    labelled = keep_surest(scores, bought, percentile)
    assert labelled.weight is not None
    is_bought = np.isin(labelled.index, bought.index)
    np.testing.assert_array_equal(labelled.label[is_bought], bought.label)
    assert (labelled.weight[is_bought] == 1).all()
    np.testing.assert_array_equal(labelled.label[~is_bought], scores[labelled.index[~is_bought]].argmax(axis=1))
    np.testing.assert_array_equal(labelled.weight[~is_bought], scores[labelled.index[~is_bought]].max(axis=1))
    others = np.setdiff1d(np.arange(1000), bought.index)
    for label in range(10):
        candidates = others[scores[others].argmax(axis=1) == label]
        kept = np.intersect1d(candidates, labelled.index)
        assert len(kept) == pytest.approx(len(candidates) * percentile / 100, abs=1)
        left = np.setdiff1d(candidates, kept)
        assert not len(kept) or not len(left) or scores[kept, label].min() >= scores[left, label].max()


def test_spread_labels_weigh_their_scores_or_all_alike(recipe_run: Clone, tmp_path: Path) -> None:
    clone = recipe_run.copy_to(tmp_path / "clone")
    # A first network would learn other scores from other weights.
    clone.set_params({"refine.max_steps": 0})
    clone.dvc("repro", "propagate")
    by_score = pd.read_csv(clone.path / "data" / "training_set.csv", index_col="index")
    bought = pd.read_csv(clone.path / "data" / "bought_labels.csv", index_col="index")
    assert "weight" in by_score
    assert (by_score.loc[bought.index, "weight"] == 1).all()
    spread = by_score["weight"].drop(bought.index)
    assert spread.between(0, 1, inclusive="neither").mean() > 0.9
    assert spread.nunique() > 100

    clone.set_params({"propagate.weighting": "equal"})
    clone.dvc("repro", "propagate")

    alike = pd.read_csv(clone.path / "data" / "training_set.csv", index_col="index")
    pd.testing.assert_frame_equal(alike, by_score.drop(columns="weight"))


def test_searches_of_few_rows_join_the_neighbours_of_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).random((500, 20), np.float32)
    whole = join_neighbours(X, 5)
    for name, value in {"ROWS_PER_LIST": 25, "ROWS_PER_SEARCH": 60}.items():
        monkeypatch.setattr(graph_module, name, value)
    parts = join_neighbours(X, 5)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    np.testing.assert_allclose(whole.data, parts.data, rtol=1e-4)
