"""Multinomial logistic regression, fast: fitted on principal components of the features.

Centring takes away the direction that makes the problem ill-conditioned, the components that are left out hold little
but noise, and shrinking the leading ones evens out what remains: L-BFGS needs a fraction of the iterations, and each
costs a fraction. The coefficients are turned back, so the model answers for features as they are.
"""

import warnings
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from few_labels.blocks import run_partitions
from few_labels.components import fit_components
from few_labels.errors import InputError
from few_labels.stored import Rows

N_COMPONENTS = 300
# In squared pixel units. A component of this variance is shrunk to 1 / sqrt(2), one of much less hardly at all; of
# pixels only the first two have more, of distances to hundreds of centroids the leading ones have far more.
SHRUNK_VARIANCE = 10.0
# Folds share them, and a few hundred labels cannot place more: 50 to 300 find as many errors.
N_FOLD_COMPONENTS = 100


def train(
    X: NDArray[np.float32],
    y: NDArray[np.unsignedinteger],
    *,
    weight: NDArray[np.float32] | None = None,
    C: float,
    max_iter: int,
    seed: int | None = None,
) -> LogisticRegression:
    """Fit multinomial logistic regression with an L2 penalty.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), unsigned integer
    weight : ndarray of shape (n_samples,), float32, or None
        How much each sample counts; None counts all alike.
    C : float
        Inverse of the regularisation strength, greater than 0, which the shrinking raises along leading components.
    max_iter : int
        L-BFGS iterations at most. Stopping short of convergence is a choice here, not a mistake: it costs no accuracy.
    seed : int or None
        What the model is to record as its ``random_state``; L-BFGS draws nothing.

    Returns
    -------
    sklearn.linear_model.LogisticRegression
        For rows like those of ``X``.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    if len(np.unique(y)) < 2:
        raise InputError(f"the training set has {len(np.unique(y))} class, allowed are 2 or more: buy more labels")
    components = fit_components(X, min(N_COMPONENTS, *X.shape))
    rotation = components.directions.T / np.sqrt(1 + components.variance / SHRUNK_VARIANCE).astype(np.float32)
    classifier = LogisticRegression(C=C, max_iter=max_iter, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A few labels for each of many classes are what this is for.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        classifier.fit(X @ rotation - components.mean @ rotation, y, sample_weight=weight)
    classifier.coef_ = classifier.coef_ @ rotation.T
    classifier.intercept_ = classifier.intercept_ - classifier.coef_ @ components.mean
    classifier.n_features_in_ = X.shape[1]
    return classifier


def score(classifier: LogisticRegression, X: Rows, n_classes: int) -> NDArray[np.float32]:
    """Give the probability of each class, 0 for one that the training set did not have.

    Parameters
    ----------
    classifier : LogisticRegression
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_classes : int

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32, in 0-1
    """
    scores = np.zeros((len(X), n_classes), np.float32)
    if len(X):
        run_partitions(partial(_score_rows, classifier, n_classes), X, out=scores, title="scores")
    return scores


def _score_rows(classifier: LogisticRegression, n_classes: int, X: NDArray[np.float32]) -> NDArray[np.float32]:
    scores = np.zeros((len(X), n_classes), np.float32)
    scores[:, classifier.classes_] = classifier.predict_proba(X)
    return scores


def out_of_fold(
    X: NDArray[np.float32],
    y: NDArray[np.integer],
    n_classes: int,
    *,
    C: float,
    max_iter: int,
    seed: int,
    n_folds: int = 5,
    weight: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Give each sample the probabilities of logistic regression that was not shown the sample's label.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), integer
        Classes 0 to ``n_classes - 1``.
    n_classes : int
    C : float
        Inverse of the regularisation strength, greater than 0.
    max_iter : int
        L-BFGS iterations at most.
    seed : int
        Shuffles the folds.
    n_folds : int
        2 or more; fewer are made where no class has that many members.
    weight : ndarray of shape (n_samples,), float32, or None
        How much each sample counts in training; None counts all alike.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32, in 0-1
        A row is all zeros where the other folds cannot judge its label: they have no member of that class, or no second
        class.
    """
    members = np.bincount(y, minlength=n_classes)
    scores = np.zeros((len(y), n_classes), np.float32)
    n_folds = min(n_folds, int(members.max(initial=0)))
    if n_folds < 2:
        return scores

    # No label goes into the components, so one set serves all folds and tells none of its answers.
    components = fit_components(X, min(N_FOLD_COMPONENTS, *X.shape)).transform(X)
    with warnings.catch_warnings():
        # A class may well have fewer members than there are folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(components, y))
    for shown, held_out in folds:
        known = np.unique(y[shown])
        judged = held_out[np.isin(y[held_out], known)]
        if len(known) > 1 and len(judged):
            shown_weight = None if weight is None else weight[shown]
            classifier = train(components[shown], y[shown], weight=shown_weight, C=C, max_iter=max_iter)
            scores[judged] = score(classifier, components[judged], n_classes)
    return scores
