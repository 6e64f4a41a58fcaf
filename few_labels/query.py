"""Which images to ask about next, from what is known so far.

One function answers for all strategies, `query`, whether a data set's own labels answer at once or a person does round
after round. ``representative`` asks about the image nearest the centroid of each cluster, the largest clusters first,
then about the second nearest, so that the budget covers the data evenly; ``margin`` begins with the representatives and
goes on with the images that a classifier trained so far finds hardest to tell; ``random`` and ``first`` are what both
are measured against, and ``all`` is the ceiling.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from few_labels.artifacts import Clustering, LabelledImages
from few_labels.errors import InputError
from few_labels.parameters import TrainLogreg
from few_labels.stored import Rows


class Strategy(StrEnum):
    """How the images to ask about are chosen."""

    REPRESENTATIVE = "representative"
    MARGIN = "margin"
    RANDOM = "random"
    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True)
class Pool:
    """What strategies choose from.

    Attributes
    ----------
    n_images : int
    clustering : Clustering or None
        None where the strategy does without.
    embedding : callable or None
        Gives the rows that ``margin``'s classifier sees, of shape (n_images, n_features), float32; it is not called by
        the other strategies, which spare reading them.
    train_logreg : TrainLogreg
        Of that classifier.
    seed : int
    """

    n_images: int
    clustering: Clustering | None
    embedding: Callable[[], Rows] | None
    train_logreg: TrainLogreg
    seed: int


def query(
    strategy: Strategy, pool: Pool, known: LabelledImages, asked: NDArray[np.int64], n_wanted: int
) -> NDArray[np.int64]:
    """Choose the images to ask about next.

    Parameters
    ----------
    strategy : Strategy
    pool : Pool
    known : LabelledImages
        The labels so far.
    asked : ndarray of shape (n_asked,), int64
        Rows not to ask about again: those known, those about which nobody could tell, and the audit images.
    n_wanted : int
        How many images at most; ``all`` gives all that are left.

    Returns
    -------
    ndarray of shape (n_queries,), int64
        Rows in order of use.

    Raises
    ------
    InputError
        If the strategy lacks a clustering or an embedding to choose by.
    """
    open_rows = np.ones(pool.n_images, bool)
    open_rows[asked] = False
    return STRATEGIES[strategy](pool, known, open_rows, n_wanted)


def plan_rounds(strategy: Strategy, pool: Pool, n_labels: int, n_rounds: int) -> list[int]:
    """Say how many labels to have after each round of a budget that is spent at once.

    Parameters
    ----------
    strategy : Strategy
    pool : Pool
    n_labels : int
    n_rounds : int
        Of ``margin``, after the representatives; the others take one.

    Returns
    -------
    list of int
        The number of labels bought when each round ends, ascending.
    """
    if strategy is Strategy.ALL:
        return [pool.n_images]
    if strategy is not Strategy.MARGIN:
        return [n_labels]
    totals = [min(n_labels, len(_nearest_first(pool)[0]))]
    for rounds_left in range(n_rounds, 0, -1):
        totals.append(totals[-1] + round((n_labels - totals[-1]) / rounds_left))
    return totals


def draw_audit(names: Sequence[str], n_audit: int, seed: int) -> NDArray[np.int64]:
    """Draw images uniformly, in such a way that those that stay in a growing folder stay drawn for the most part.

    Parameters
    ----------
    names : sequence of str
        Of the pool, by row.
    n_audit : int
        At most the whole pool.
    seed : int

    Returns
    -------
    ndarray of shape (n_audit,), int64
        Rows in a random order: those whose names have the smallest hashes.
    """
    if n_audit == 0:
        return np.empty(0, np.int64)
    hashes = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names]
    return np.argsort(np.array(hashes, "S8").view(">u8"), kind="stable")[:n_audit]


def _representative(pool: Pool, known: LabelledImages, open_rows: NDArray, n_wanted: int) -> NDArray[np.int64]:
    nearest, others = _nearest_first(pool)
    order = np.concatenate([nearest, others])
    return order[open_rows[order]][:n_wanted]


def _margin(pool: Pool, known: LabelledImages, open_rows: NDArray, n_wanted: int) -> NDArray[np.int64]:
    """Take the representatives, then the smallest margins, one of a cluster at most as long as there are clusters.

    An image's margin is the difference between the probabilities of its two likeliest classes (Scheffer, Decomain and
    Wrobel 2001, "Active hidden Markov models for information extraction"). One of a cluster, so that a round does not
    buy the same doubt many times (Citovsky et al. 2021, "Batch active learning at scale").
    """
    nearest, _ = _nearest_first(pool)
    nearest = nearest[open_rows[nearest]]
    if len(nearest) or len(np.unique(known.label)) < 2:
        # A classifier needs two classes; until there are, clusters say more than doubt.
        return nearest[:n_wanted] if len(nearest) else _representative(pool, known, open_rows, n_wanted)
    if pool.embedding is None or pool.clustering is None:
        raise InputError("strategy margin chooses by a clustering and an embedding, and one was not given")
    # Logistic regression takes a second to load, which the other strategies do without.
    from few_labels.logistic_regression import score, train_on

    X = pool.embedding()
    classifier = train_on(X, known, **pool.train_logreg.model_dump())
    second, first = np.partition(score(classifier, X, int(known.label.max()) + 1), -2, axis=1)[:, -2:].T
    margin = first - second
    margin[~open_rows] = np.inf
    hardest_first = np.argsort(margin, kind="stable")[: np.count_nonzero(open_rows)]
    _, first_of_cluster = np.unique(pool.clustering.cluster[hardest_first], return_index=True)
    one_a_cluster = hardest_first[np.sort(first_of_cluster)]
    others = np.delete(hardest_first, first_of_cluster)
    return np.concatenate([one_a_cluster, others])[:n_wanted]


def _random(pool: Pool, known: LabelledImages, open_rows: NDArray, n_wanted: int) -> NDArray[np.int64]:
    candidates = np.flatnonzero(open_rows)
    n_asked = pool.n_images - len(candidates)
    # Another draw each round, and the plain one where nothing was asked.
    rng = np.random.default_rng((pool.seed, n_asked) if n_asked else pool.seed)
    return rng.choice(candidates, min(n_wanted, len(candidates)), replace=False)


def _first(pool: Pool, known: LabelledImages, open_rows: NDArray, n_wanted: int) -> NDArray[np.int64]:
    return np.flatnonzero(open_rows)[:n_wanted]


def _all(pool: Pool, known: LabelledImages, open_rows: NDArray, n_wanted: int) -> NDArray[np.int64]:
    return np.flatnonzero(open_rows)


def _nearest_first(pool: Pool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order the pool by rank within the cluster, larger clusters first: the representatives, and all others."""
    if pool.clustering is None:
        raise InputError("the strategy chooses from a clustering, and none was given")
    cluster, distance = pool.clustering.cluster, pool.clustering.distance_to_centroid
    size = np.bincount(cluster)
    by_cluster = np.lexsort((distance, cluster))
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])
    rank = np.empty(len(cluster), np.int64)
    rank[by_cluster] = np.arange(len(cluster)) - starts[cluster[by_cluster]]
    order = np.lexsort((cluster, -size[cluster], rank))
    n_representatives = np.count_nonzero(size)
    return order[:n_representatives], order[n_representatives:]


STRATEGIES = {
    Strategy.REPRESENTATIVE: _representative,
    Strategy.MARGIN: _margin,
    Strategy.RANDOM: _random,
    Strategy.FIRST: _first,
    Strategy.ALL: _all,
}
