"""Bought labels that look wrong: a model that was not shown a label contradicts it.

A wrong label costs more than it did to buy, for it is spread over its neighbourhood. Each label is held against the
answer of a classifier trained on the others, out of fold, and ranked by the probability that the answer leaves for it
(self-confidence: Northcutt et al. 2021, "Confident learning"; Kuan and Mueller 2022, "Model-agnostic label quality
scoring to detect real-world label errors").

That ranking is cleanlab's ``find_label_issues(filter_by="predicted_neq_given")`` to the row. Its further methods,
class thresholds and normalised margins, found fewer planted errors among the few hundred labels that are usual here, so
what is left is not worth a dependency.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

# Folds share them, and a few hundred labels cannot place more: 50 to 300 find as many errors.
N_COMPONENTS = 100


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

    # Whoever only imports this module should not wait for scikit-learn.
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold

    from few_labels.logistic_regression import score, train

    # No label goes into the components, so one set serves all folds and tells none of its answers.
    components = PCA(min(N_COMPONENTS, *X.shape), random_state=seed).fit_transform(X)
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


def rank_suspects(
    scores: NDArray[np.float32], label: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """List the labels that a model contradicts, the surest first.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes), float32, in 0-1
        Probabilities from a model that was not shown the labels; a row of zeros is no judgement.
    label : ndarray of shape (n_samples,), integer
        Classes 0 to n_classes - 1.

    Returns
    -------
    order : ndarray of shape (n_suspects,), int64
        Rows whose greatest probability is another class's.
    quality : ndarray of shape (n_suspects,), float32, in 0-1
        The probability of the label of each, ascending; equal ones stand in the order of their rows.
    """
    of_label = scores[np.arange(len(label)), label]
    contradicted = np.flatnonzero(of_label < scores.max(axis=1, initial=0))
    order = contradicted[np.argsort(of_label[contradicted], kind="stable")].astype(np.int64)
    return order, of_label[order]
