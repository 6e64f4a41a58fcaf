"""The 15 nearest neighbours of each of 60,000 images, in the space of the recipe; quality is the recall.

That is the share of the true ones that is found, for every thirtieth image.
"""

from collections.abc import Callable
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Measurement, System, load, params
from few_labels.embedding import fit_patches
from few_labels.graph import N_LISTS_SEARCHED, ROWS_PER_LIST, find_nearest

Find = Callable[[NDArray[np.float32], int], NDArray[np.int64]]

GRADED = slice(None, None, 30)


def ours(X: NDArray[np.float32], n_nearest: int) -> NDArray[np.int64]:
    """Look within lists, as the propagate stage does."""
    return find_nearest(X, n_nearest)[1]


def all_with_all(X: NDArray[np.float32], n_nearest: int) -> NDArray[np.int64]:
    """Compare every image with every other one, by faiss."""
    return find_exactly(X, X, n_nearest)


def inverted_lists(X: NDArray[np.float32], n_nearest: int) -> NDArray[np.int64]:
    """Look within as many lists as ours, by faiss."""
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(X.shape[1]), X.shape[1], len(X) // ROWS_PER_LIST)
    index.train(X)
    index.add(X)
    index.nprobe = N_LISTS_SEARCHED
    return index.search(X, n_nearest)[1]


def find_exactly(X: NDArray[np.float32], queries: NDArray[np.float32], n_nearest: int) -> NDArray[np.int64]:
    """Compare queries with all rows, by faiss."""
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    return index.search(queries, n_nearest)[1]


def measure(find: Find) -> Measurement:
    """Time one search."""
    settings = {name: value for name, value in params()["embed"].items() if name not in ("method", "encoder")}
    X = np.asarray(fit_patches(load("train_images"), **settings, seed=params()["seed"])[1])
    n_nearest = params()["propagate"]["n_neighbours"] + 1
    measurement = Measurement()
    with measurement.clock():
        found = find(X, n_nearest)
    # The first is the image itself.
    exact = find_exactly(X, X[GRADED], n_nearest)[:, 1:]
    shared = [np.isin(some, others) for some, others in zip(exact, found[GRADED], strict=True)]
    measurement.quality = f"{np.mean(shared):.4f}"
    return measurement


SYSTEMS = [
    System("neighbours", "ours", partial(measure, ours)),
    System("neighbours", "faiss, all with all", partial(measure, all_with_all)),
    System("neighbours", "faiss IndexIVFFlat", partial(measure, inverted_lists)),
]
