"""Bought labels that look wrong: a model that was not shown a label contradicts it.

A wrong label costs more than it did to buy, for it is spread over its neighbourhood. Each label is held against the
answer of a classifier trained on the others, out of fold, and ranked by the probability that the answer leaves for it
(self-confidence: Northcutt et al. 2021, "Confident learning"; Kuan and Mueller 2022, "Model-agnostic label quality
scoring to detect real-world label errors").

That ranking is cleanlab's ``find_label_issues(filter_by="predicted_neq_given")`` to the row. Its further methods,
class thresholds and normalised margins, found fewer planted errors among the few hundred labels that are usual here, so
what is left is not worth a dependency.
"""

import numpy as np
from numpy.typing import NDArray


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
