"""A graph of nearest neighbours, and label spreading on it."""

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stages.artifacts import LabelledImages
from stages.dataset import CLASS_NAMES

N_STEPS = 50
TINY = np.finfo(np.float32).tiny


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
        Symmetric: the weight of an edge is ``exp(-d(i, j)^2 / (s_i s_j))``, where ``s`` is the distance of an image to
        its last neighbour (Zelnik-Manor and Perona 2004, "Self-tuning spectral clustering").
    """
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    # The nearest is the image itself.
    squared, neighbour = index.search(X, min(n_neighbours + 1, len(X)))
    squared, neighbour = np.maximum(squared[:, 1:], 0), neighbour[:, 1:]
    scale = np.sqrt(squared[:, -1])
    weight = np.exp(-squared / np.maximum(scale[:, None] * scale[neighbour], TINY))
    rows = np.repeat(np.arange(len(X)), neighbour.shape[1])
    directed = sparse.csr_array((weight.ravel(), (rows, neighbour.ravel())), shape=(len(X), len(X)))
    return directed.maximum(directed.T).tocsr()


def spread_over_graph(graph: sparse.csr_array, bought: LabelledImages, alpha: float) -> NDArray[np.float32]:
    """Let bought labels flow along the edges of a graph (label spreading, Zhou et al. 2004).

    Parameters
    ----------
    graph : csr_array of shape (n_samples, n_samples), float32
        Symmetric, not negative.
    bought : LabelledImages
    alpha : float
        0 to less than 1: the share that an image takes from its neighbours at each step.

    Returns
    -------
    ndarray of shape (n_samples, 10), float32
        Shares of the classes, in 0-1, all zero where no label arrives.
    """
    degree = graph.sum(axis=1)
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(degree, TINY)))
    normalised = (scale @ graph @ scale).tocsr().astype(np.float32)
    start = np.zeros((graph.shape[0], len(CLASS_NAMES)), np.float32)
    start[bought.index, bought.label] = 1
    flow = start
    for _ in range(N_STEPS):
        flow = np.float32(alpha) * (normalised @ flow) + np.float32(1 - alpha) * start
    return flow / np.maximum(flow.sum(axis=1, keepdims=True), TINY)
