"""A graph of nearest neighbours, and label spreading on it."""

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from few_labels.artifacts import LabelledImages
from few_labels.blocks import run_blocks

ROWS_AT_ONCE = 4096
TINY = np.finfo(np.float32).tiny


def find_nearest(X: NDArray[np.float32], n_nearest: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows that are nearest to each row, by comparing all with all.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    n_nearest : int
        1 to n_samples. A row counts among its own.

    Returns
    -------
    squared : ndarray of shape (n_samples, n_nearest), float32
        Squared distances, the nearest first; by rounding one can be below 0.
    nearest : ndarray of shape (n_samples, n_nearest), int64
    """
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    squared = np.empty((len(X), n_nearest), np.float32)
    nearest = np.empty((len(X), n_nearest), np.int64)

    def search(rows: slice) -> None:
        squared[rows], nearest[rows] = index.search(X[rows], n_nearest)

    run_blocks(search, len(X), ROWS_AT_ONCE)
    return squared, nearest


def join_neighbours(X: NDArray[np.float32], n_neighbours: int) -> sparse.csr_array:
    """Join each image with its nearest neighbours, the more strongly the nearer they are.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    n_neighbours : int
        At most n_samples - 1 are joined.

    Returns
    -------
    csr_array of shape (n_samples, n_samples), float32
        Symmetric, nothing on the diagonal: the weight of an edge is ``exp(-d(i, j)^2 / (s_i s_j))``, where ``s`` is the
        distance of an image to its last neighbour (Zelnik-Manor and Perona 2004, "Self-tuning spectral clustering").
    """
    n_neighbours = min(n_neighbours, len(X) - 1)
    squared, neighbour = find_nearest(X, n_neighbours + 1)
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
