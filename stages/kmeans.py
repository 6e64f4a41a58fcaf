"""Cluster the pool by k-means, fast: most of the work is done on a few principal components.

The seeding (greedy k-means++, Arthur and Vassilvitskii 2007) and most of Lloyd's iterations run on the leading
principal components, where a distance costs a sixteenth; the centroids then move to the pixels and a few exact
iterations finish there. Projection preserves the k-means cost up to what the dropped components hold (Cohen et al.
2015, "Dimensionality reduction for k-means clustering and low rank approximation"), so the exact iterations start near
an optimum of the full problem. scikit-learn does the projection, the seeding and the exact iterations; faiss the
others.
"""

from pathlib import Path
from typing import Annotated

import faiss
import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.decomposition import PCA
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import Clustering, load_embedding, replacing, save_clustering
from few_labels.images import choose_pca_solver, to_rows
from few_labels.parameters import KMeans as KMeansParameters
from stages import run

ROWS_AT_ONCE = 4096
# With fewer, a cluster has nobody to spread a label to: a small pool gets fewer clusters than were asked for.
LEAST_IMAGES_PER_CLUSTER = 4


def main(
    kmeans: KMeansParameters,
    n_clusters: int,
    seed: int,
    embedding: Annotated[Path, Option()],
    model: Annotated[Path, Option()],
    clustering: Annotated[Path, Option()],
) -> None:
    X = to_rows(load_embedding(embedding))
    n_found = limit_clusters(n_clusters, len(X))
    if n_found < n_clusters:
        print(f"n_clusters is {n_clusters}, {len(X)} images get {n_found}: {LEAST_IMAGES_PER_CLUSTER} images a cluster")
    fitted = fit_kmeans(X, n_found, **kmeans.model_dump(), seed=seed)
    partition = describe(fitted, X)
    with replacing(model) as temporary:
        joblib.dump(fitted, temporary)
    save_clustering(clustering, partition)
    print(f"{len(X)} images in {n_found} clusters, inertia {fitted.inertia_:,.0f}")


def limit_clusters(n_clusters: int, n_images: int) -> int:
    """Give the number of clusters that a pool can fill: as many as asked for, four images each on average at least."""
    return min(n_clusters, max(1, n_images // LEAST_IMAGES_PER_CLUSTER))


def fit_kmeans(
    X: NDArray[np.float32],
    n_clusters: int,
    *,
    n_components: int,
    n_iter_components: int,
    n_iter_pixels: int,
    seed: int,
) -> KMeans:
    """Fit k-means from one start: on principal components first, then on the rows as they are.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    n_clusters : int
        1 to n_samples.
    n_components : int
        Principal components to start on; at most min(n_samples, n_features) are used.
    n_iter_components, n_iter_pixels : int
        Lloyd iterations on the components and on ``X``.
    seed : int
        Makes the seeding repeatable.

    Returns
    -------
    sklearn.cluster.KMeans
        Fitted on ``X``: ``labels_`` and ``inertia_`` belong to ``cluster_centers_``.
    """
    with tqdm(total=4, bar_format="{desc:<40} {n}/{total} {elapsed}") as progress:
        progress.set_description("principal components")
        n_components = min(n_components, *X.shape)
        # Exact, which a randomised solver would not be.
        components = PCA(n_components, svd_solver=choose_pca_solver(*X.shape)).fit_transform(X)
        progress.update()

        progress.set_description("k-means++ on the components")
        # scikit-learn would turn float32 into float64 again at every draw; columns in one piece make them faster still.
        seeding = components.astype(np.float64, order="F")
        _, chosen = kmeans_plusplus(seeding, n_clusters, random_state=seed)
        progress.update()

        progress.set_description("Lloyd's iterations on the components")
        lloyd = faiss.Kmeans(
            n_components,
            n_clusters,
            niter=n_iter_components,
            seed=seed,
            # Every image counts, and few images for a cluster are no reason to warn.
            max_points_per_centroid=len(X),
            min_points_per_centroid=1,
        )
        lloyd.train(components, init_centroids=components[chosen])
        _, nearest = lloyd.index.search(components, 1)
        progress.update()

        progress.set_description("Lloyd's iterations on the pixels")
        kmeans = KMeans(
            n_clusters,
            init=cluster_means(X, nearest[:, 0], n_clusters),
            n_init=1,
            max_iter=n_iter_pixels,
            tol=0,
            random_state=seed,
        ).fit(X)
        progress.update()
    # The start has served: it would only double the size of the model's file.
    return kmeans.set_params(init="k-means++")


def cluster_means(X: NDArray[np.float32], cluster: NDArray[np.integer], n_clusters: int) -> NDArray[np.float32]:
    """Average the rows of each cluster.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    cluster : ndarray of shape (n_samples,)
    n_clusters : int

    Returns
    -------
    ndarray of shape (n_clusters, n_features), float32
        Zeros for an empty cluster, which k-means moves to a far sample.
    """
    sums = np.zeros((n_clusters, X.shape[1]), np.float32)
    np.add.at(sums, cluster, X)
    sizes = np.maximum(np.bincount(cluster, minlength=n_clusters), 1)
    return (sums / sizes[:, None]).astype(np.float32)


def describe(kmeans: KMeans, X: NDArray[np.float32]) -> Clustering:
    """Give each sample its cluster and its distance to the centroid, and each cluster its representative.

    Parameters
    ----------
    kmeans : KMeans
        Fitted on ``X``.
    X : ndarray of shape (n_samples, n_features), float32

    Returns
    -------
    Clustering
        Distances are Euclidean, in the units of ``X``.
    """
    cluster = kmeans.labels_.astype(np.int32)
    distance = np.empty(len(X), np.float32)
    for start in range(0, len(X), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        distance[rows] = np.linalg.norm(X[rows] - kmeans.cluster_centers_[cluster[rows]], axis=1)
    nearest_first = np.lexsort((distance, cluster))
    not_empty, first = np.unique(cluster[nearest_first], return_index=True)
    representative = np.full(kmeans.n_clusters, -1, np.int64)
    representative[not_empty] = nearest_first[first]
    return Clustering(cluster, distance, representative)


if __name__ == "__main__":
    run(main)
