"""The clustering is a scikit-learn model that holds together, and as good as scikit-learn's own."""

from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans

from few_labels import kmeans as lloyd
from few_labels.artifacts import Clustering
from few_labels.images import to_pixel_vectors
from few_labels.kmeans import assign, average, iterate, seed_kmeans_plusplus
from stages.kmeans import describe, fit_kmeans, limit_clusters
from tests.conftest import Clone, read_images

N_CLUSTERS = 60


@pytest.fixture(scope="module")
def pixels(idx_folder: Path) -> np.ndarray:
    return to_pixel_vectors(read_images(idx_folder)[:3000])


@pytest.fixture(scope="module")
def kmeans(pixels: np.ndarray) -> KMeans:
    return fit_kmeans(pixels, N_CLUSTERS, n_components=48, n_iter_components=20, n_iter_pixels=5, seed=42)


@pytest.fixture(scope="module")
def clustering(pixels: np.ndarray, kmeans: KMeans) -> Clustering:
    return describe(kmeans, pixels)


def test_every_image_is_in_the_cluster_of_its_nearest_centroid(
    pixels: np.ndarray, kmeans: KMeans, clustering: Clustering
) -> None:
    distances = kmeans.transform(pixels)
    assert distances.shape == (len(pixels), N_CLUSTERS)
    np.testing.assert_allclose(clustering.distance_to_centroid, distances.min(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(clustering.cluster, distances.argmin(axis=1))


def test_the_inertia_is_the_sum_of_squared_distances(kmeans: KMeans, clustering: Clustering) -> None:
    assert kmeans.inertia_ == pytest.approx((clustering.distance_to_centroid.astype(float) ** 2).sum(), rel=1e-4)


def test_a_representative_is_the_member_nearest_the_centroid(clustering: Clustering) -> None:
    for cluster, image in enumerate(clustering.representative):
        members = np.flatnonzero(clustering.cluster == cluster)
        assert image in members
        assert clustering.distance_to_centroid[image] == clustering.distance_to_centroid[members].min()


def test_it_is_as_good_as_scikit_learn_from_one_start(pixels: np.ndarray, kmeans: KMeans) -> None:
    peer = KMeans(N_CLUSTERS, n_init=1, random_state=42).fit(pixels)
    assert kmeans.inertia_ <= 1.01 * peer.inertia_


@pytest.mark.parametrize(("n_images", "n_found"), [(60_000, 2000), (8000, 2000), (150, 37), (4, 1), (1, 1)])
def test_a_small_pool_gets_fewer_clusters(n_images: int, n_found: int) -> None:
    assert limit_clusters(2000, n_images) == n_found


def test_as_many_clusters_as_images(pixels: np.ndarray) -> None:
    kmeans = fit_kmeans(pixels[:30], 30, n_components=48, n_iter_components=5, n_iter_pixels=2, seed=0)
    assert sorted(describe(kmeans, pixels[:30]).representative) == list(range(30))


def test_the_seed_draws_the_start(pixels: np.ndarray) -> None:
    def representatives(seed: int) -> list[int]:
        kmeans = fit_kmeans(pixels[:500], 20, n_components=16, n_iter_components=1, n_iter_pixels=1, seed=seed)
        return describe(kmeans, pixels[:500]).representative.tolist()

    assert representatives(1) == representatives(1) != representatives(2)


def test_an_empty_cluster_has_no_representative(pixels: np.ndarray) -> None:
    far = np.full((1, pixels.shape[1]), 100, np.float32)
    model = KMeans(2, init=np.concatenate([pixels[:1], far]), n_init=1, max_iter=1).fit(pixels[:10])
    model.labels_ = np.zeros(10, np.int32)
    assert describe(model, pixels[:10]).representative[1] == -1


def test_the_file_serves_a_scikit_learn_user(small_run: Clone) -> None:
    model = joblib.load(small_run.path / "models" / "kmeans.joblib")
    images = np.load(small_run.path / "data" / "test_images.npy")
    assert model.transform(to_pixel_vectors(images)).shape == (len(images), 50)


def test_the_seeding_prefers_rows_that_are_far_from_those_chosen() -> None:
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    X = np.repeat(centres, 50, axis=0) + np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    for seed in range(5):
        assert sorted(seed_kmeans_plusplus(X, 4, seed) // 50) == [0, 1, 2, 3]


def test_rows_that_are_all_alike_can_be_seeded() -> None:
    assert seed_kmeans_plusplus(np.ones((6, 3), np.float32), 4, 0).shape == (4,)


def test_among_many_centroids_nearly_every_row_finds_its_nearest(
    pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    centroids = pixels[::3]
    cluster, closeness = assign(pixels, centroids)
    monkeypatch.setattr(lloyd, "MOST_COMPARED", 100)
    monkeypatch.setattr(lloyd, "CENTROIDS_PER_GROUP", 10)
    found, near = assign(pixels, centroids)
    same = found == cluster
    assert 0.98 < same.mean() < 1
    np.testing.assert_allclose(near[same], closeness[same], rtol=1e-5)
    assert (near[~same] < closeness[~same]).all()
    # Every centroid is a row, which is nearest to itself.
    np.testing.assert_array_equal(found[::3], np.arange(1000))


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    X = np.array([[0, 0], [1, 0], [0, 1], [30, 30]], np.float32)
    moved = iterate(X, np.array([[0, 0], [-500, -500]], np.float32), 1)
    np.testing.assert_array_equal(moved[1], X[3])


def test_a_cluster_is_averaged_over_its_rows() -> None:
    X = np.random.default_rng(0).random((300, 5), np.float32)
    cluster = np.random.default_rng(1).integers(0, 90, 300)
    means, sizes = average(X, cluster, 100)
    for each in range(100):
        expected = X[cluster == each].mean(axis=0) if sizes[each] else np.zeros(5)
        np.testing.assert_allclose(means[each], expected, rtol=1e-5, atol=1e-7)
    assert sizes.tolist() == np.bincount(cluster, minlength=100).tolist()
