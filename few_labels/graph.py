"""A graph of nearest neighbours, and label spreading on it."""

from functools import partial
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from few_labels.artifacts import LabelledImages
from few_labels.blocks import make_rows, map_blocks, map_partitions, run_partitions, split
from few_labels.kmeans import MOST_ROWS_SEEDED, assign, draw_rows, iterate
from few_labels.stored import Rows, Stored

# A row is compared with those of so many lists: 12,000 others.
ROWS_PER_LIST = 512
N_LISTS_SEARCHED = 24
ROWS_PER_SEARCH = 8192
SAMPLED_PER_LIST = 32
N_LIST_ITERATIONS = 10
TINY = np.finfo(np.float32).tiny


def find_nearest(X: Rows, n_nearest: int, scratch: Path | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows that are nearest to each row, within lists.

    A list is what is nearest to one of many centroids, which are those of a sample. A row is compared with the rows of
    its own list and of those whose centroids are nearest to that of its own (inverted lists, Jégou, Douze and Schmid
    2011, "Product quantization for nearest neighbor search"), so that time grows with the number of rows and not with
    its square.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_nearest : int
        1 to n_samples. A row counts among its own.
    scratch : Path, optional
        Where rows of a file are kept list by list meanwhile, as all who compute see it; without, they are in memory.

    Returns
    -------
    squared : ndarray of shape (n_samples, n_nearest), float32
        Squared distances, the nearest first; by rounding one can be below 0.
    nearest : ndarray of shape (n_samples, n_nearest), int64
        Of more than 12,000 rows a few are others than the nearest.
    """
    n_lists = -(-len(X) // ROWS_PER_LIST)
    sample = draw_rows(X, max(MOST_ROWS_SEEDED, SAMPLED_PER_LIST * n_lists), seed=0)
    centroids = iterate(sample, sample[np.linspace(0, len(sample) - 1, n_lists).astype(int)], N_LIST_ITERATIONS)
    own, _ = assign(X, centroids)
    by_list = np.argsort(own, kind="stable")
    ends = np.cumsum(np.bincount(own, minlength=n_lists))

    listed = make_rows(len(X), X.shape[1], scratch if isinstance(X, Stored) else None)
    run_partitions(partial(_take, X), by_list, out=listed, partitions=split(X), title="lists")
    search = partial(_search_lists, listed, centroids, ends, n_nearest)
    squared, nearest = np.empty((len(X), n_nearest), np.float32), np.empty((len(X), n_nearest), np.int64)
    filled = 0
    for some_squared, place in map_partitions(
        search, listed, own[by_list], partitions=_cut_lists(ends), title="neighbours"
    ):
        rows = by_list[filled : filled + len(place)]
        squared[rows], nearest[rows] = some_squared, by_list[place]
        filled += len(place)
    return squared, nearest


def _take(X: Rows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return X[rows]


def _cut_lists(ends: NDArray[np.int64]) -> list[slice]:
    """Cut rows that lie list by list into partitions of whole lists, of about as many rows each."""
    last = np.unique(np.append(ends[np.flatnonzero(np.diff(ends // ROWS_PER_SEARCH))], ends[-1]))
    return [slice(start, stop) for start, stop in zip(np.append(0, last[:-1]).tolist(), last.tolist(), strict=True)]


def _search_lists(
    listed: Rows,
    centroids: NDArray[np.float32],
    ends: NDArray[np.int64],
    n_nearest: int,
    X: NDArray[np.float32],
    own: NDArray[np.integer],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compare the rows of some lists with those of lists nearby, and give distances and places among all lists."""
    starts = ends - np.diff(ends, prepend=0)
    numbers = np.unique(own)

    def search(block: slice) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        number = numbers[block.start]
        lists = np.argsort(np.square(centroids - centroids[number]).sum(axis=1), kind="stable")
        # Lists can be almost empty, where many rows are alike.
        n_searched = np.searchsorted(np.cumsum((ends - starts)[lists]), n_nearest) + 1
        lists = np.sort(lists[: max(n_searched, N_LISTS_SEARCHED)])
        candidates = np.concatenate([listed[starts[each] : ends[each]] for each in lists])
        place = np.concatenate([np.arange(starts[each], ends[each]) for each in lists])
        index = faiss.IndexFlatL2(X.shape[1])
        index.add(candidates)
        squared, position = index.search(X[own == number], n_nearest)
        return squared, place[position]

    squared, nearest = zip(*map_blocks(search, len(numbers), 1), strict=True)
    return np.concatenate(squared), np.concatenate(nearest)


def join_neighbours(X: Rows, n_neighbours: int, scratch: Path | None = None) -> sparse.csr_array:
    """Join each image with its nearest neighbours, the more strongly the nearer they are.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_neighbours : int
        At most n_samples - 1 are joined.
    scratch : Path, optional
        As in `find_nearest`.

    Returns
    -------
    csr_array of shape (n_samples, n_samples), float32
        Symmetric, nothing on the diagonal: the weight of an edge is ``exp(-d(i, j)^2 / (s_i s_j))``, where ``s`` is the
        distance of an image to its last neighbour (Zelnik-Manor and Perona 2004, "Self-tuning spectral clustering").
    """
    n_neighbours = min(n_neighbours, len(X) - 1)
    squared, neighbour = find_nearest(X, n_neighbours + 1, scratch)
    # The nearest is the image itself, or one that looks the same: an image that is not among its own neighbours has as
    # many equals as it has neighbours, and loses the last of them.
    other = neighbour != np.arange(len(X))[:, None]
    other[other.all(axis=1), -1] = False
    squared = np.maximum(squared[other].reshape(len(X), n_neighbours), 0)
    neighbour = neighbour[other].reshape(len(X), n_neighbours)
    scale = np.sqrt(squared[:, -1])
    weight = np.exp(-squared / np.maximum(scale[:, None] * scale[neighbour], TINY))
    rows = np.repeat(np.arange(len(X)), n_neighbours)
    directed = sparse.csr_array((weight.ravel(), (rows, neighbour.ravel())), shape=(len(X), len(X)))
    return directed.maximum(directed.T).tocsr()


def spread_over_graph(
    graph: sparse.csr_array, bought: LabelledImages, n_classes: int, alpha: float, n_steps: int
) -> NDArray[np.float32]:
    """Let bought labels flow along the edges of a graph (label spreading, Zhou et al. 2004).

    Parameters
    ----------
    graph : csr_array of shape (n_samples, n_samples), float32
        Symmetric, not negative.
    bought : LabelledImages
    n_classes : int
    alpha : float
        0 to less than 1: the share that an image takes from its neighbours at each step.
    n_steps : int
        How far a label can get, in edges.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32
        Shares of the classes, in 0-1, all zero where no label arrives. A share says nothing where labels of one class
        alone arrive: there it is what arrives, as a part of what the bought images have on average.
    """
    degree = graph.sum(axis=1)
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(degree, TINY)))
    normalised = (scale @ graph @ scale).tocsr().astype(np.float32)
    start = np.zeros((graph.shape[0], n_classes), np.float32)
    start[bought.index, bought.label] = 1
    flow = start
    for _ in range(n_steps):
        flow = np.float32(alpha) * (normalised @ flow) + np.float32(1 - alpha) * start
    arrived = flow.sum(axis=1, keepdims=True)
    share = flow / np.maximum(arrived, TINY)
    alone = np.count_nonzero(flow, axis=1) == 1
    share[alone] *= np.minimum(arrived[alone] / arrived[bought.index].mean(), 1)
    return share
