"""Labels spread by the definition: within each cluster, to the images inside its own percentile of distance."""

import numpy as np
import pytest

from stages.artifacts import Clustering, LabelledImages
from stages.propagate import spread_over_clusters


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
