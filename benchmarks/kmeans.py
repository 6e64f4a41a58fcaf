"""K-means on 60,000 x 784 pixels, from one start; quality is the inertia, computed alike for all.

Two of the peers are packages that nothing else needs: `make bench` brings them, as ``benchmarks/peers.txt`` says.
"""

from collections.abc import Callable
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from benchmarks.common import Measurement, System, load_pixels, params
from stages.kmeans import fit_kmeans

Fit = Callable[[NDArray[np.float32], int, int], NDArray[np.float32]]


def ours(X: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Cluster as the kmeans stage does."""
    return fit_kmeans(X, k, **params()["kmeans"], seed=seed).cluster_centers_


def scikit_learn(X: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Cluster by scikit-learn's KMeans."""
    return KMeans(k, n_init=1, random_state=seed).fit(X).cluster_centers_


def mini_batch(X: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Cluster by scikit-learn's MiniBatchKMeans."""
    return MiniBatchKMeans(k, n_init=1, random_state=seed).fit(X).cluster_centers_


def with_faiss(X: NDArray[np.float32], k: int, seed: int, *, kind: str, **settings: int) -> NDArray[np.float32]:
    """Cluster by one of faiss's classes, on every image as the others do."""
    settings |= {"seed": seed, "max_points_per_centroid": len(X), "min_points_per_centroid": 1}
    kmeans = getattr(faiss, kind)(X.shape[1], k, **settings)
    kmeans.train(X)
    return kmeans.centroids


def super_kmeans(X: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Cluster by the package superkmeans, on every image as the others do."""
    from superkmeans import SuperKMeans

    every_image = {"sampling_fraction": 1.0, "max_points_per_cluster": len(X)}
    return SuperKMeans(k, X.shape[1], seed=seed, **every_image).train(X)


def clostera(X: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Cluster by clostera, which starts by k-means++."""
    from clostera import DenseKMeans

    return DenseKMeans(k=k, seed=seed).fit(X).cluster_centers_


def measure(fit: Fit, k: int) -> Measurement:
    """Time one fit."""
    X = load_pixels("train")
    measurement = Measurement()
    with measurement.clock():
        centroids = fit(X, k, params()["seed"])
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(np.ascontiguousarray(centroids, np.float32))
    squared_distance, _ = index.search(X, 1)
    measurement.quality = f"{squared_distance.sum(dtype=np.float64):.0f}"
    return measurement


PEERS: dict[str, Fit] = {
    "ours": ours,
    "scikit-learn KMeans": scikit_learn,
    "scikit-learn MiniBatchKMeans": mini_batch,
    "faiss Kmeans": partial(with_faiss, kind="Kmeans"),
    # Its default start is drawn at random.
    "faiss Kmeans, k-means++": partial(
        with_faiss, kind="Kmeans", init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    ),
    "faiss SuperKmeans": partial(with_faiss, kind="SuperKmeans"),
    "superkmeans": super_kmeans,
    "clostera": clostera,
}
SYSTEMS = [System(f"kmeans-{k}", name, partial(measure, fit, k)) for k in (500, 2000) for name, fit in PEERS.items()]
