"""Time and memory of kmeans, featurize and propagate as the data grows: the images, repeated with noise.

The number of clusters is 500, or one for every 30 images. Quality is that number. featurize computes distances, the
representation that costs something; propagate starts from a random clustering, on whose quality it does not depend.
"""

import tempfile
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.common import Measurement, System, load, params
from few_labels.artifacts import Clustering, LabelledImages, save_array
from few_labels.images import to_pixel_vectors
from few_labels.parameters import Featurize
from stages import featurize, propagate
from stages.kmeans import describe, fit_kmeans

N_IMAGES = (15_000, 30_000, 60_000, 120_000, 240_000)
N_CLUSTERS = 500
IMAGES_PER_CLUSTER = 30
LARGEST_NOISE = 8


def make_images(n_images: int) -> NDArray[np.uint8]:
    """Repeat the training images up to ``n_images``, each with noise of its own."""
    originals = load("train_images")
    images = np.resize(originals, (n_images, *originals.shape[1:]))
    noise = np.random.default_rng(params()["seed"]).integers(0, LARGEST_NOISE, images.shape, np.uint8)
    np.minimum(images, 255 - noise, out=images)
    return np.add(images, noise, out=images)


def measure_kmeans(n_images: int, k: int) -> Measurement:
    """Time the clustering and its description."""
    X = to_pixel_vectors(make_images(n_images))
    measurement = Measurement(quality=str(k))
    with measurement.clock():
        describe(fit_kmeans(X, k, **params()["kmeans"], seed=params()["seed"]), X)
    return measurement


def measure_featurize(n_images: int, k: int) -> Measurement:
    """Time the stage from file to file."""
    measurement = Measurement(quality=str(k))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = make_images(n_images)
        save_array(folder / "train.npy", images)
        save_array(folder / "test.npy", load("test_images"))
        centroids = to_pixel_vectors(images[:k])
        joblib.dump(KMeans(k, init=centroids, n_init=1, max_iter=1).fit(centroids), folder / "kmeans.joblib")
        del images, centroids
        with measurement.clock():
            featurize.main(
                Featurize(representation="distances"),
                train_embedding=folder / "train.npy",
                test_embedding=folder / "test.npy",
                model=folder / "kmeans.joblib",
                train_features=folder / "train_features.npy",
                test_features=folder / "test_features.npy",
            )
    return measurement


def measure_propagate(n_images: int, k: int) -> Measurement:
    """Time the spreading of one label a cluster."""
    rng = np.random.default_rng(params()["seed"])
    cluster = rng.integers(0, k, n_images).astype(np.int32)
    cluster[:k] = np.arange(k)
    distance = rng.random(n_images, np.float32)
    distance[:k] = 0
    index = np.arange(k)
    bought = LabelledImages(index, rng.integers(0, 10, k, np.uint8))
    measurement = Measurement(quality=str(k))
    with measurement.clock():
        propagate.spread_over_clusters(Clustering(cluster, distance, index), bought, params()["percentile"])
    return measurement


STAGES = {"kmeans": measure_kmeans, "featurize": measure_featurize, "propagate": measure_propagate}
SYSTEMS = [
    System(f"scaling-{stage}-{growth}", str(n), partial(measure, n, k), n_runs=1)
    for stage, measure in STAGES.items()
    for n in N_IMAGES
    for growth, k in (("k-fixed", N_CLUSTERS), ("k-growing", n // IMAGES_PER_CLUSTER))
]
