"""Kernel values as features: with them, a linear model draws curved borders.

An image is described by how like it is to landmarks, images of which the label is known. The measure is the rational
quadratic kernel (Rasmussen and Williams 2006, "Gaussian processes for machine learning", section 4.2): one over one
plus a squared distance, without an exponential. Few landmarks stand for many images (Williams and Seeger 2001, "Using
the Nyström method to speed up kernel machines").
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from few_labels.blocks import run_blocks
from few_labels.components import fit_components
from few_labels.stored import Rows

N_COMPONENTS = 300
ROWS_AT_ONCE = 4096
# Of the variance of all components: one that has as much is shrunk to 1 / sqrt(2), so that a few do not decide alone
# which images are alike.
SHRUNK_SHARE = 1 / 64
# Added to the likeness of each landmark to itself: no two are the same to the last digit then.
NUGGET = 1e-4


@dataclass(frozen=True)
class KernelMap:
    """How like images are to landmarks; a transformer as scikit-learn's are.

    Attributes
    ----------
    mean : ndarray of shape (n_features,), float32
    rotation : ndarray of shape (n_features, n_components), float32
        To shrunk principal components, whose variances add up to 1.
    landmarks : ndarray of shape (n_landmarks, n_components), float32
    """

    mean: NDArray[np.float32]
    rotation: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def fit(self, X: NDArray[np.float32], y: object = None) -> "KernelMap":
        """Do nothing: it is fitted by `fit_kernel_map`; a scikit-learn pipeline asks its steps for this method."""
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compare rows of shape (n_samples, n_features), and give (n_samples, n_landmarks), float32, in 0-1."""
        likeness = np.empty((len(X), len(self.landmarks)), np.float32)

        def compare(rows: slice) -> None:
            self.compare(X[rows], out=likeness[rows])

        run_blocks(compare, len(X), ROWS_AT_ONCE)
        return likeness

    def compare(self, X: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Do as `transform` for a block of rows, in the thread that asks."""
        return self._compare(X @ self.rotation - self.mean @ self.rotation, out)

    def transform_landmarks(self) -> NDArray[np.float32]:
        """Compare the landmarks with each other."""
        return self._compare(self.landmarks)

    def _compare(self, Z: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        likeness = np.matmul(Z, -2 * self.landmarks.T, out=out)
        likeness += np.square(Z).sum(axis=1)[:, None]
        likeness += np.square(self.landmarks).sum(axis=1)
        np.maximum(likeness, np.float32(0), out=likeness)
        likeness += np.float32(1)
        return np.reciprocal(likeness, out=likeness)

    def whiten(self) -> NDArray[np.float32]:
        """Give the matrix that turns likenesses into features of which products are the kernel's values.

        Returns
        -------
        ndarray of shape (n_landmarks, n_landmarks), float32
        """
        likeness = self.transform_landmarks().astype(np.float64)
        likeness[np.diag_indices_from(likeness)] += NUGGET
        root = linalg.cholesky(likeness, lower=True)
        return linalg.solve_triangular(root, np.eye(len(root)), lower=True).T.astype(np.float32)


def fit_kernel_map(X: Rows, landmarks: NDArray[np.int64]) -> KernelMap:
    """Find the space in which images are compared, from all of them: it needs no label.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_samples, n_features), float32
    landmarks : ndarray of shape (n_landmarks,), int64
        Rows to compare others with.

    Returns
    -------
    KernelMap
    """
    components = fit_components(X, min(N_COMPONENTS, *X.shape))
    variance = components.variance
    shrinking = 1 + variance / max(SHRUNK_SHARE * variance.sum(), np.finfo(np.float32).tiny)
    spread = max((variance / shrinking).sum(), np.finfo(np.float32).tiny)
    rotation = (components.directions.T / np.sqrt(shrinking * spread)).astype(np.float32)
    return KernelMap(components.mean, rotation, X[landmarks] @ rotation - components.mean @ rotation)
