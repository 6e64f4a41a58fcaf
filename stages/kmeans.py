"""Cluster the pool by k-means, fast: most of the work is done on a few principal components.

The seeding and Lloyd's first iterations run on the leading principal components, where a distance costs little; the
next ones on four times as many, which settles what the first could not tell apart; the last on the rows as they are.
Projection preserves the k-means cost up to what the dropped components hold (Cohen et al. 2015, "Dimensionality
reduction for k-means clustering and low rank approximation"), so the exact iterations start near an optimum of the full
problem.
"""

from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from sklearn.cluster import KMeans
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import Clustering, load_embedding, replacing, save_clustering, scratch_beside
from few_labels.blocks import first_columns, keep_partitions, open_rows
from few_labels.components import fit_components
from few_labels.kmeans import assign, average, draw_start, iterate, measure_distances
from few_labels.parameters import KMeans as KMeansParameters
from few_labels.stored import Rows
from stages import run

# With fewer, a cluster has nobody to spread a label to: a small pool gets fewer clusters than were asked for.
LEAST_IMAGES_PER_CLUSTER = 4
# How many times the first components the next iterations run on.
FINER = 4


def main(
    kmeans: KMeansParameters,
    n_clusters: int,
    seed: int,
    embedding: Annotated[Path, Option()],
    model: Annotated[Path, Option()],
    clustering: Annotated[Path, Option()],
) -> None:
    X = open_rows(load_embedding(embedding))
    n_found = limit_clusters(n_clusters, len(X))
    if n_found < n_clusters:
        print(f"n_clusters is {n_clusters}, {len(X)} images get {n_found}: {LEAST_IMAGES_PER_CLUSTER} images a cluster")
    with scratch_beside(clustering) as scratch:
        fitted = fit_kmeans(X, n_found, **kmeans.model_dump(), seed=seed, scratch=scratch)
    partition = describe(fitted, X)
    with replacing(model) as temporary:
        joblib.dump(fitted, temporary)
    save_clustering(clustering, partition)
    print(f"{len(X)} images in {n_found} clusters, inertia {fitted.inertia_:,.0f}")


def limit_clusters(n_clusters: int, n_images: int) -> int:
    """Give the number of clusters that a pool can fill: as many as asked for, four images each on average at least."""
    return min(n_clusters, max(1, n_images // LEAST_IMAGES_PER_CLUSTER))


def fit_kmeans(
    X: Rows,
    n_clusters: int,
    *,
    n_components: int,
    n_iter_components: int,
    n_iter_pixels: int,
    seed: int,
    scratch: Path | None = None,
) -> KMeans:
    """Fit k-means from one start: on principal components first, then on the rows as they are.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_clusters : int
        1 to n_samples.
    n_components : int
        Principal components to start on; at most min(n_samples, n_features) are used.
    n_iter_components, n_iter_pixels : int
        Lloyd iterations on the components, then as many on four times as many, and those on ``X``.
    seed : int
        Makes the seeding repeatable.
    scratch : Path, optional
        Where the components of many rows are kept meanwhile, as all who compute see it; without, they are in memory.

    Returns
    -------
    sklearn.cluster.KMeans
        Fitted on ``X``: ``labels_`` and ``inertia_`` belong to ``cluster_centers_``.
    """
    with tqdm(total=4, bar_format="{desc:<40} {n}/{total} {elapsed}") as progress:
        progress.set_description("principal components")
        components = fit_components(X, min(FINER * n_components, *X.shape))
        fine = keep_partitions(components.transform, X, len(components.directions), scratch, title="projections")
        coarse = first_columns(fine, n_components)
        progress.update()

        progress.set_description("k-means++ on the components")
        start = draw_start(coarse, n_clusters, seed)
        progress.update()

        progress.set_description("Lloyd's iterations on the components")
        cluster, _ = assign(coarse, iterate(coarse, start, n_iter_components))
        cluster, _ = assign(fine, iterate(fine, average(fine, cluster, n_clusters)[0], n_iter_components))
        progress.update()

        progress.set_description("Lloyd's iterations on the pixels")
        centroids = iterate(X, average(X, cluster, n_clusters)[0], n_iter_pixels)
        cluster, _ = assign(X, centroids)
        progress.update()
    kmeans = KMeans(n_clusters, n_init=1, max_iter=max(n_iter_pixels, 1), random_state=seed)
    kmeans.cluster_centers_, kmeans.labels_ = centroids, cluster
    kmeans.inertia_ = float(np.square(measure_distances(X, centroids, cluster), dtype=np.float64).sum())
    kmeans.n_iter_, kmeans.n_features_in_, kmeans._n_threads = n_iter_pixels, X.shape[1], 1
    return kmeans


def describe(kmeans: KMeans, X: Rows) -> Clustering:
    """Give each sample its cluster and its distance to the centroid, and each cluster its representative.

    Parameters
    ----------
    kmeans : KMeans
        Fitted on ``X``.
    X : ndarray or Stored of shape (n_samples, n_features), float32

    Returns
    -------
    Clustering
        Distances are Euclidean, in the units of ``X``.
    """
    cluster = kmeans.labels_.astype(np.int32)
    distance = measure_distances(X, kmeans.cluster_centers_, cluster)
    nearest_first = np.lexsort((distance, cluster))
    not_empty, first = np.unique(cluster[nearest_first], return_index=True)
    representative = np.full(kmeans.n_clusters, -1, np.int64)
    representative[not_empty] = nearest_first[first]
    return Clustering(cluster, distance, representative)


if __name__ == "__main__":
    run(main)
