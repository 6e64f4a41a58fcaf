"""Judge a classifier on labels that it was not shown, though nobody bought any for that: fold by fold."""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

N_FOLDS = 5


def cut_folds(
    y: NDArray[np.integer], *, seed: int, n_folds: int = N_FOLDS
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide labels into those that a classifier is shown and those that it is judged on, so that each has its turn.

    Parameters
    ----------
    y : ndarray of shape (n_samples,), integer
        Classes from 0.
    seed : int
        Shuffles the folds.
    n_folds : int
        2 or more; fewer are made where no class has that many members.

    Yields
    ------
    shown, judged : ndarray, int64
        Rows. What the rows that are shown cannot tell is not judged: a label of a class that they have no member of,
        or any, where they are of one class.
    """
    n_folds = min(n_folds, int(np.bincount(y, minlength=1).max()))
    if n_folds < 2:
        return
    # Stages that cut none do without scikit-learn.
    from sklearn.model_selection import StratifiedKFold

    with warnings.catch_warnings():
        # A class may well have fewer members than there are folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(y, y))
    for shown, held_out in folds:
        known = np.unique(y[shown])
        judged = held_out[np.isin(y[held_out], known)]
        if len(known) > 1 and len(judged):
            yield shown, judged


def grade_out_of_fold(scores: NDArray[np.float32], y: NDArray[np.integer]) -> float | None:
    """Give the accuracy of what was answered out of fold.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes), float32
        A row of zeros is no judgement.
    y : ndarray of shape (n_samples,), integer

    Returns
    -------
    float or None
        In 0-1; None where nothing was judged.
    """
    judged = scores.any(axis=1)
    return float((scores.argmax(axis=1) == y)[judged].mean()) if judged.any() else None
