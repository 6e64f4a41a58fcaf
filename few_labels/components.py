"""Principal components of many rows, from sums of products over blocks of rows."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from few_labels.blocks import map_blocks, map_partitions, run_blocks
from few_labels.stored import Rows

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Components:
    """Principal components, the widest first.

    Attributes
    ----------
    mean : ndarray of shape (n_features,), float32
    directions : ndarray of shape (n_components, n_features), float32
        Orthonormal rows. The largest number of each is positive, which settles its sign.
    variance : ndarray of shape (n_components,), float64
        Of the rows along each direction, by n - 1.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    variance: NDArray[np.float64]

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project rows of shape (n_samples, n_features), and give (n_samples, n_components), float32."""
        projected = np.empty((len(X), len(self.directions)), np.float32)

        def project(rows: slice) -> None:
            np.matmul(X[rows] - self.mean, self.directions.T, out=projected[rows])

        run_blocks(project, len(X), ROWS_AT_ONCE)
        return projected


def fit_components(X: Rows, n_components: int, *, among: NDArray[np.bool_] | None = None) -> Components:
    """Find the principal components of rows, exactly.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
        At least one row.
    n_components : int
        1 to min(n_samples, n_features).
    among : ndarray of shape (n_samples,), bool, optional
        Which rows count, more than there are features; by default all do.

    Returns
    -------
    Components
        From the eigenvectors of the smaller of two matrices: the covariance of the features, or, where there are fewer
        rows than features, the products of the rows with each other.
    """
    n_samples, n_features = X.shape if among is None else (np.count_nonzero(among), X.shape[1])
    rows = (X,) if among is None else (X, among)
    total = np.zeros(n_features)
    for some in map_partitions(_sum_rows, *rows, title="mean"):
        total += some
    mean = (total / n_samples).astype(np.float32)
    if n_samples < n_features:
        centred = X[:] - mean
        variance, left = _largest(centred.astype(np.float64) @ centred.T.astype(np.float64), n_components)
        directions = left @ centred
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    else:
        products = np.zeros((n_features, n_features))
        for some in map_partitions(partial(_multiply_features, mean), *rows, title="products"):
            products += some
        variance, directions = _largest(products, n_components)
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.where(directions[np.arange(n_components), largest] < 0, -1, 1)[:, None]
    return Components(mean, directions.astype(np.float32), variance / max(n_samples - 1, 1))


def _sum_rows(X: NDArray[np.float32], among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    X = X if among is None else X[among]
    total = np.zeros(X.shape[1])
    for some in map_blocks(lambda rows: X[rows].sum(axis=0, dtype=np.float64), len(X), ROWS_AT_ONCE):
        total += some
    return total


def _multiply_features(
    mean: NDArray[np.float32], X: NDArray[np.float32], among: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Sum the products of each two features, centred."""
    X = X if among is None else X[among]

    def multiply(rows: slice) -> NDArray[np.float32]:
        centred = X[rows] - mean
        return centred.T @ centred

    products = np.zeros((X.shape[1], X.shape[1]))
    for some in map_blocks(multiply, len(X), ROWS_AT_ONCE):
        products += some
    return products


def _largest(symmetric: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the n largest eigenvalues, none below 0, and their eigenvectors as rows."""
    size = len(symmetric)
    values, vectors = linalg.eigh(symmetric, subset_by_index=[size - n, size - 1], overwrite_a=True, check_finite=False)
    return np.maximum(values[::-1], 0), np.ascontiguousarray(vectors.T[::-1])
