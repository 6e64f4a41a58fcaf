"""K-means by Lloyd's algorithm, over blocks of rows: assignment by one matrix product a block, exact means after it.

Seeding is greedy k-means++ (Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding"), on a sample
where there are many rows.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from few_labels.blocks import map_blocks, map_partitions, run_blocks
from few_labels.stored import Rows

# So few that a block's products with two thousand centroids stay in a core's cache.
ROWS_AT_ONCE = 256
CLUSTERS_AT_ONCE = 64
SEEDING_ROWS_AT_ONCE = 30_000
# More centroids are gathered in groups, and a row is compared with those of a few groups: with 3,000.
MOST_COMPARED = 2**13
CENTROIDS_PER_GROUP = 128
N_GROUPS_SEARCHED = 24
N_GROUP_ITERATIONS = 5
MEASURED_ROWS_AT_ONCE = 4096
# Of more rows a sample is drawn, of as many or of two for each cluster: what a start is worth does not grow with it.
MOST_ROWS_SEEDED = 2**16


def draw_start(X: Rows, n_clusters: int, seed: int) -> NDArray[np.float32]:
    """Choose rows to start from, by k-means++ on all of them or on a sample.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_clusters : int
        1 to n_samples.
    seed : int

    Returns
    -------
    ndarray of shape (n_clusters, n_features), float32
    """
    sample = draw_rows(X, max(MOST_ROWS_SEEDED, 2 * n_clusters), seed)
    return sample[seed_kmeans_plusplus(sample, n_clusters, seed)]


def draw_rows(X: Rows, n_rows: int, seed: int) -> NDArray[np.float32]:
    """Draw rows without repeating one, in their order; all of them where there are no more."""
    if len(X) <= n_rows:
        return X[:]
    return X[np.sort(np.random.default_rng(seed).choice(len(X), n_rows, replace=False))]


def seed_kmeans_plusplus(X: NDArray[np.float32], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """Choose rows to start from: each is the best of a few that are drawn in proportion to what they would save.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    n_clusters : int
        1 to n_samples.
    seed : int

    Returns
    -------
    ndarray of shape (n_clusters,), int64
        Positions in ``X``; one can stand twice where fewer rows differ.
    """
    rng = np.random.default_rng(seed)
    n_samples = len(X)
    n_trials = 2 + int(np.log(n_clusters))
    squared_norm = np.square(X).sum(axis=1)
    # One product gives squared distances: the norms of both sides are two more features.
    features = np.vstack([X.T, np.ones(n_samples, np.float32), squared_norm])
    chosen = np.empty(n_clusters, np.int64)
    chosen[0] = rng.integers(n_samples)
    closest = np.full(n_samples, np.inf, np.float32)
    to_row = np.empty((n_trials, n_samples), np.float32)
    cumulated = np.empty(n_samples)

    def measure(candidates: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        squared = to_row[: len(candidates), rows]
        np.matmul(candidates, features[:, rows], out=squared)
        np.minimum(squared, closest[rows], out=squared)
        return squared.sum(axis=1)

    for i in range(n_clusters):
        drawn = chosen[:1]
        if i:
            np.cumsum(closest, dtype=np.float64, out=cumulated)
            drawn = np.searchsorted(cumulated, rng.random(n_trials) * cumulated[-1], side="right")
            drawn = np.minimum(drawn, n_samples - 1)
        candidates = np.column_stack([-2 * X[drawn], squared_norm[drawn], np.ones(len(drawn), np.float32)])
        left = map_blocks(partial(measure, candidates), n_samples, SEEDING_ROWS_AT_ONCE)
        best = int(np.sum(list(left), axis=0, dtype=np.float64).argmin())
        chosen[i] = drawn[best]
        np.maximum(to_row[best], 0, out=closest)
    return chosen


def assign(X: Rows, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Give each row its nearest centroid, and how near it is.

    Among very many centroids it is the nearest of those whose groups are nearest to the row's own group, so that time
    does not grow with their number; inverted lists do the same for neighbours (Jégou, Douze and Schmid 2011, "Product
    quantization for nearest neighbor search").

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    centroids : ndarray of shape (n_clusters, n_features), float32

    Returns
    -------
    cluster : ndarray of shape (n_samples,), int32
        The first of those that are equally near.
    closeness : ndarray of shape (n_samples,), float32
        ``x @ c - |c|^2 / 2`` for the nearest centroid c: half of what the squared distance is below ``|x|^2``.
    """
    search = partial(_assign_rows, centroids)
    if len(centroids) > MOST_COMPARED:
        search = partial(_assign_within_groups, _group(centroids))
    parts = list(map_partitions(search, X, title="nearest centroids"))
    cluster, closeness = zip(*parts, strict=True)
    return np.concatenate(cluster), np.concatenate(closeness)


def _assign_rows(
    centroids: NDArray[np.float32], X: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    columns = np.ascontiguousarray(centroids.T)
    half = np.square(centroids).sum(axis=1) / 2
    cluster = np.empty(len(X), np.int32)
    closeness = np.empty(len(X), np.float32)

    def assign_some(rows: slice) -> None:
        products = X[rows] @ columns
        products -= half
        nearest = products.argmax(axis=1)
        cluster[rows] = nearest
        closeness[rows] = products[np.arange(len(nearest)), nearest]

    run_blocks(assign_some, len(X), ROWS_AT_ONCE)
    return cluster, closeness


@dataclass(frozen=True)
class _Groups:
    """Centroids that lie group by group, so that those of a group are compared where they are.

    Attributes
    ----------
    middles : ndarray of shape (n_groups, n_features), float32
    order : ndarray of shape (n_clusters,), int64
        The position of each centroid before.
    centroids : ndarray of shape (n_clusters, n_features), float32
    half : ndarray of shape (n_clusters,), float32
        Half of their squared norms.
    ends : ndarray of shape (n_groups,), int64
        Where each group ends.
    near : ndarray of shape (n_groups, n_searched), int64
        The groups nearest to each.
    """

    middles: NDArray[np.float32]
    order: NDArray[np.int64]
    centroids: NDArray[np.float32]
    half: NDArray[np.float32]
    ends: NDArray[np.int64]
    near: NDArray[np.int64]


def _group(centroids: NDArray[np.float32]) -> _Groups:
    n_groups = len(centroids) // CENTROIDS_PER_GROUP
    start = centroids[np.linspace(0, len(centroids) - 1, n_groups).astype(int)]
    middles = iterate(centroids, start, N_GROUP_ITERATIONS)
    own, _ = assign(centroids, middles)
    order = np.argsort(own, kind="stable")
    ends = np.cumsum(np.bincount(own, minlength=n_groups))
    squared = np.square(middles).sum(axis=1) - 2 * middles @ middles.T
    near = np.argsort(squared, axis=1, kind="stable")[:, :N_GROUPS_SEARCHED]
    half = np.square(centroids).sum(axis=1) / 2
    return _Groups(middles, order, centroids[order], half[order], ends, near)


def _assign_within_groups(groups: _Groups, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    own, _ = _assign_rows(groups.middles, X)
    by_group = np.argsort(own, kind="stable")
    filled, starts = np.unique(own[by_group], return_index=True)
    parts = np.split(by_group, starts[1:])
    cluster = np.empty(len(X), np.int32)
    closeness = np.full(len(X), -np.inf, np.float32)

    def assign_group(block: slice) -> None:
        rows = parts[block.start]
        some, place, closest = X[rows], np.zeros(len(rows), np.int64), closeness[rows]
        for group in groups.near[filled[block.start]]:
            end = groups.ends[group]
            start = groups.ends[group - 1] if group else 0
            if start == end:
                continue
            products = some @ groups.centroids[start:end].T
            products -= groups.half[start:end]
            nearest = products.argmax(axis=1)
            near = products[np.arange(len(rows)), nearest]
            nearer = near > closest
            place[nearer], closest[nearer] = start + nearest[nearer], near[nearer]
        cluster[rows], closeness[rows] = groups.order[place], closest

    run_blocks(assign_group, len(filled), 1)
    return cluster, closeness


def average(X: Rows, cluster: NDArray[np.integer], n_clusters: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Average the rows of each cluster.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    cluster : ndarray of shape (n_samples,), integer
    n_clusters : int

    Returns
    -------
    means : ndarray of shape (n_clusters, n_features), float32
        Zeros for an empty cluster.
    sizes : ndarray of shape (n_clusters,), int64
    """
    means = np.zeros((n_clusters, X.shape[1]), np.float32)
    for filled, sums in map_partitions(_sum_clusters, X, cluster, title="means of clusters"):
        means[filled] += sums
    sizes = np.bincount(cluster, minlength=n_clusters)
    means /= np.maximum(sizes, 1)[:, None].astype(np.float32)
    return means, sizes


def _sum_clusters(
    X: NDArray[np.float32], cluster: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Sum the rows of each cluster that has any, and say which these are."""
    by_cluster = np.argsort(cluster, kind="stable")
    filled, starts = np.unique(cluster[by_cluster], return_index=True)
    ends = np.append(starts[1:], len(cluster))
    sums = np.empty((len(filled), X.shape[1]), np.float32)

    def sum_some(some: slice) -> None:
        first, last = starts[some.start], ends[some.stop - 1]
        sums[some] = np.add.reduceat(X[by_cluster[first:last]], starts[some] - first, axis=0)

    run_blocks(sum_some, len(filled), CLUSTERS_AT_ONCE)
    return filled, sums


def iterate(X: Rows, centroids: NDArray[np.float32], n_iter: int) -> NDArray[np.float32]:
    """Run Lloyd's iterations: assign each row to its nearest centroid, move each centroid to the mean of its rows.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    centroids : ndarray of shape (n_clusters, n_features), float32
        At most as many as samples.
    n_iter : int
        0 or more; fewer are run where nothing moves any more.

    Returns
    -------
    ndarray of shape (n_clusters, n_features), float32
        The centroid of an empty cluster has moved to the row that was farthest from its own, as in scikit-learn.
    """
    before = None
    for _ in range(n_iter):
        cluster, closeness = assign(X, centroids)
        if before is not None and np.array_equal(cluster, before):
            break
        before = cluster
        centroids, sizes = average(X, cluster, len(centroids))
        empty = np.flatnonzero(sizes == 0)
        if len(empty):
            distance = np.concatenate(list(map_partitions(_square_norms, X))) - 2 * closeness
            centroids[empty] = X[np.argsort(-distance, kind="stable")[: len(empty)]]
    return centroids


def _square_norms(X: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.square(X).sum(axis=1)


def measure_distances(X: Rows, centroids: NDArray[np.float32], cluster: NDArray[np.integer]) -> NDArray[np.float32]:
    """Give the distance of each sample to the centroid of its cluster, Euclidean, in the units of ``X``."""
    return np.concatenate(list(map_partitions(partial(_measure_rows, centroids), X, cluster, title="distances")))


def _measure_rows(
    centroids: NDArray[np.float32], X: NDArray[np.float32], cluster: NDArray[np.integer]
) -> NDArray[np.float32]:
    distance = np.empty(len(X), np.float32)

    def measure(rows: slice) -> None:
        distance[rows] = np.linalg.norm(X[rows] - centroids[cluster[rows]], axis=1)

    run_blocks(measure, len(X), MEASURED_ROWS_AT_ONCE)
    return distance
