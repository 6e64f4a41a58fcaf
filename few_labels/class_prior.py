"""What is known of how large the classes are, and scores that agree with it.

Few labels leave some classes with too many images and others with too few. Where the sizes of the classes are known
from elsewhere, that much can be put right without another label.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from few_labels.errors import InputError

N_ITERATIONS = 50
SUM_TOLERANCE = 1e-3
TINY = np.finfo(float).tiny


def resolve_prior(class_prior: str | Sequence[float], class_names: Sequence[str]) -> NDArray[np.float64] | None:
    """Give the share of each class, where it is known.

    Parameters
    ----------
    class_prior : str or sequence of float
        ``none``, ``uniform``, or a share for each class.
    class_names : sequence of str

    Returns
    -------
    ndarray of shape (n_classes,), float64, in 0-1, or None
        None where nothing is known.

    Raises
    ------
    InputError
        If there are more or fewer shares than classes, or they do not add up to 1.
    """
    if class_prior == "none":
        return None
    n_classes = len(class_names)
    if class_prior == "uniform":
        return np.full(n_classes, 1 / n_classes)
    shares = np.array(class_prior, float)
    if len(shares) != n_classes:
        raise InputError(
            f"propagate.class_prior has {len(shares)} shares, allowed are {n_classes}, one a class: "
            f"{', '.join(class_names)}"
        )
    if abs(shares.sum() - 1) > SUM_TOLERANCE:
        raise InputError(f"propagate.class_prior adds up to {shares.sum():.3f}, allowed is 1")
    return shares / shares.sum()


def match_prior(scores: NDArray[np.float32], prior: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale the scores of each class by one factor, so that the classes get the shares that they are known to have.

    The factors are found by alternating between images and classes (Sinkhorn and Knopp 1967, "Concerning nonnegative
    matrices and doubly stochastic matrices"), in damped steps. A single step is the class mass normalisation of Zhu,
    Ghahramani and Lafferty (2003, "Semi-supervised learning using Gaussian fields and harmonic functions").

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), float32, in 0-1
    prior : ndarray of shape (n_classes,), float64
        The share of each class, greater than 0, 1 in sum.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
        Each row adds up to what it did. Of rows that are made to add up to 1 the mean is the prior, but for classes
        that no image has a score for.
    """
    total = scores.sum(axis=1, keepdims=True, dtype=np.float64)
    reached = total[:, 0] > 0
    if not reached.any():
        return np.zeros_like(scores)
    share = scores[reached] / total[reached]
    factor = share.any(axis=0).astype(float)

    def scale() -> NDArray[np.float64]:
        scaled = share * factor
        return scaled / np.maximum(scaled.sum(axis=1, keepdims=True), TINY)

    for _ in range(N_ITERATIONS):
        factor *= np.sqrt(prior / np.maximum(scale().mean(axis=0), TINY))
        factor /= factor.max()
    matched = np.zeros_like(scores)
    matched[reached] = scale() * total[reached]
    return matched
