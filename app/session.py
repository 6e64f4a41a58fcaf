"""What is asked, what a key means, and what an answer adds to the ledger: nothing here shows or reads anything.

Several people may be at it at once. What one of them is looking at is not shown to another, and the answers of all
count in the order in which they reached the ledger.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from app.dataset import Dataset, Query, Suspect
from few_labels.ledger import CANNOT_TELL, NOT_HELD, History, Line, find_text_problem, fold_spelling, new_decision

# x takes an image out of a grid.
CLASS_KEYS = "123456789abcdefghijklmnopqrstuvwyz"
# More would be neither looked at nor quick to show.
MOST_IN_GRID = 200

fold = cache(fold_spelling)


@dataclass(frozen=True)
class Grid:
    """The images of a cluster that have no label yet.

    Attributes
    ----------
    cluster : int
    rows : list of int
        The nearest to the centroid first.
    n_more : int
        How many are left for the next time.
    is_new : bool
        Whether nobody answered for any image of the cluster yet, but for the audit.
    """

    cluster: int
    rows: list[int]
    n_more: int
    is_new: bool


@dataclass(frozen=True)
class Review:
    """A label to look at again: the model contradicts it, or people contradict each other.

    Attributes
    ----------
    image : str
    label : str
        The one that counts now.
    suggested : str
        The class of the model or of the one who was overruled, empty where there is none.
    reason : str
        What speaks against the label.
    is_suspect : bool
        Whether it is the model that contradicts it.
    """

    image: str
    label: str
    suggested: str
    reason: str
    is_suspect: bool


def list_classes(known: Sequence[str], history: History) -> list[str]:
    """Give the classes of the data set, then those that people added, in the order in which they did.

    A class keeps its place, and so its key, as more are added.
    """
    folded = {fold(name) for name in known}
    added: dict[str, str] = {}
    for label in history.n_lines_of:
        if label != CANNOT_TELL and fold(label) not in folded:
            added.setdefault(fold(label), unicodedata.normalize("NFC", label.strip()))
    return [*known, *added.values()]


def count_labels(class_names: Sequence[str], history: History) -> dict[str, int]:
    """Count the labels of each class that count now."""
    n_of = Counter(fold(lines[-1].label) for lines in history.held.values() if lines)
    return {name: n_of[fold(name)] for name in class_names}


def interpret(typed: str, class_names: Sequence[str]) -> tuple[str, str]:
    """Say which class a person typed.

    Parameters
    ----------
    typed : str
    class_names : sequence of str

    Returns
    -------
    str
        The name of the class, a new one where none is spelt alike.
    str
        Why it can be none; empty where it can.
    """
    text = unicodedata.normalize("NFC", typed.strip())
    if not text:
        return "", "a class has a name"
    if problem := find_text_problem(text):
        return "", problem
    if text in class_names:
        return text, ""
    return next((name for name in class_names if fold(name) == fold(text)), text), ""


def class_of_key(key: str, class_names: Sequence[str]) -> str | None:
    """Give the class that a key stands for; None where it stands for none."""
    place = CLASS_KEYS.find(key.lower()) if len(key) == 1 else -1
    return class_names[place] if 0 <= place < len(class_names) else None


def next_queries(
    queries: Iterable[Query], history: History, taken: Container[object] = (), first: Sequence[str] = ()
) -> list[Query]:
    """Give what is still to be asked, in order.

    Parameters
    ----------
    queries : iterable of Query
    history : History
    taken : container
        Images that somebody else is looking at.
    first : sequence of str
        Images to ask about before all others: those whose answers were taken back.

    Returns
    -------
    list of Query
    """
    by_image = {query.image: query for query in queries}
    order = [by_image.get(image, Query(image)) for image in first]
    order += [query for query in by_image.values() if query.image not in first]
    return [query for query in order if history.label(query.image) is None and query.image not in taken]


def next_grid(
    data: Dataset, history: History, taken: Collection[object] = (), cluster: int | None = None
) -> Grid | None:
    """Give a cluster that nobody began with, or else the one with the most images without a label.

    Of the former it is one that is large and unlike those that were begun: the next centre of a greedy k-means++
    (Arthur and Vassilvitskii 2007), at first the largest. The largest are like each other, and of few classes.

    Parameters
    ----------
    data : Dataset
    history : History
    taken : collection
        Clusters that somebody else is looking at, or that were put aside.
    cluster : int, optional
        Show this one, if it has anything left.

    Returns
    -------
    Grid or None
        Without the images of the audit: they are to be answered one by one, not because their neighbours are. None
        where no image is left.
    """
    is_answered, is_audit = np.zeros(len(data.names), bool), np.zeros(len(data.names), bool)
    is_answered[[data.row_of[image] for image, lines in history.held.items() if lines and image in data.row_of]] = True
    is_audit[[data.row_of[image] for image in data.audit]] = True
    is_open, n_clusters = ~is_answered & ~is_audit, int(data.cluster.max()) + 1
    n_open = np.bincount(data.cluster[is_open], minlength=n_clusters)
    is_begun = np.bincount(data.cluster[is_answered & ~is_audit], minlength=n_clusters) > 0
    is_seen = is_begun.copy()
    is_seen[[number for number in taken if isinstance(number, int)]] = True
    worth = n_open * data.unlikeness.to_nearest(is_seen) if is_seen.any() else n_open
    worth[is_begun] = 0
    order = [cluster] if cluster is not None and n_open[cluster] else np.lexsort((-n_open, -worth, is_begun)).tolist()
    for chosen in order:
        if n_open[chosen] and (chosen not in taken or chosen == cluster):
            rows = np.flatnonzero(is_open & (data.cluster == chosen))
            rows = rows[np.argsort(data.distance[rows], kind="stable")].tolist()
            n_more = max(0, len(rows) - MOST_IN_GRID)
            return Grid(int(chosen), rows[:MOST_IN_GRID], n_more, is_new=not is_begun[chosen])
    return None


def next_reviews(suspects: Iterable[Suspect], history: History, taken: Container[object] = ()) -> list[Review]:
    """Give the labels to look at again: those about which people disagree, then those that the model contradicts.

    A suspect is done with when its label was changed, or given twice.

    Parameters
    ----------
    suspects : iterable of Suspect
    history : History
    taken : container
        Images that somebody else is looking at.

    Returns
    -------
    list of Review
    """
    reviews = []
    for image, said in history.disagreements().items():
        label = history.label(image) or CANNOT_TELL
        others = [other for other in said.values() if other and fold(other) != fold(label)]
        reason = ", ".join(f"{annotator} says {answer or 'cannot tell'}" for annotator, answer in said.items())
        reviews.append(Review(image, label, others[0] if others else "", reason, False))
    disputed = {review.image for review in reviews}
    for suspect in suspects:
        lines = history.held.get(suspect.image, [])
        given = [fold(line.label) for line in lines[-2:]]
        is_confirmed = len(given) == 2 and given[0] == given[1]
        is_changed = bool(lines) and given[-1] != fold(suspect.label)
        if suspect.image not in disputed and not is_confirmed and not is_changed:
            reason = f"the model says {suspect.suggested}, with {1 - suspect.doubt:.0%} for {suspect.label}"
            reviews.append(Review(suspect.image, suspect.label, suspect.suggested, reason, True))
    return [review for review in reviews if review.image not in taken]


def find_round(queries: Iterable[Query], history: History) -> int:
    """Give the number of the round that these queries make: that of the answers to them, or else the next one."""
    answered = [history.held[query.image][-1].round for query in queries if history.held.get(query.image)]
    return max(answered, default=history.last_round + 1)


def decide(
    images: Sequence[str], label: str, annotator: str, round: int, *, left_out: Sequence[str] = (), history: History
) -> list[Line]:
    """Give the lines of one decision.

    Parameters
    ----------
    images : sequence of str
        All that get the label.
    label : str
        Empty for "cannot tell".
    annotator : str
    round : int
    left_out : sequence of str
        What was looked at and taken out.
    history : History

    Returns
    -------
    list of Line
    """
    decision = new_decision()
    return [
        *(Line(image, label, annotator, round, decision) for image in images),
        *(_withdraw(image, annotator, round, decision, history) for image in left_out),
    ]


def undo(annotator: str, round: int, history: History) -> list[Line]:
    """Give the lines that take back what a person decided last; none where nothing is left."""
    last = history.last_decision(annotator)
    if last is None:
        return []
    decision, images = last
    return [
        _withdraw(image, annotator, round, "" if decision[0] == NOT_HELD else decision, history) for image in images
    ]


def _withdraw(image: str, annotator: str, round: int, decision: str, history: History) -> Line:
    remaining = list(history.held.get(image, []))
    place = next((i for i in reversed(range(len(remaining))) if remaining[i].decision == decision), None)
    if place is not None:
        del remaining[place]
    label = remaining[-1].label if remaining else CANNOT_TELL
    return Line(image, label, annotator, round, f"{NOT_HELD}{decision}")
