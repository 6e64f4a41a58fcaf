"""Where one stands: how many labels, how right the model is, what the last round gained, and whether to go on.

Each training leaves a record of what the model answered, not of how right that was: so every audit image that is
answered later grades all models so far alike, and two of them are compared on the same images, which needs far fewer
of them than two shares of their own do (Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of
binomial proportions based on paired data").

When labels stop paying is told by stabilizing predictions (Bloodgood and Vijay-Shanker 2009, "A method for stopping
active learning based on stabilizing predictions and the need for user-adjustable stopping"): by how far successive
models agree, as Cohen's kappa, on images that need no label, here 2,000 drawn uniformly. Their setting, an average of
0.99 over three pairs of models, is used. It is logistic regression that is compared, because a network that starts anew
each time differs from the last one without having learned anything.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from few_labels.calibration import Z_95, wilson_interval
from few_labels.ledger import CANNOT_TELL, History, fold_spelling

STOP_SET = 2000
KAPPA = 0.99
WINDOW = 3


@dataclass(frozen=True)
class Record:
    """What is known of one training.

    Attributes
    ----------
    pool : str
        A hash of the names of all images: models of different pools are not compared.
    n_labels, n_decisions : int
        What it learned from, and how many decisions of people there had been.
    audit : dict of str to str
        The answer for each audit image.
    classes : list of str
    stop_set : list of int
        Logistic regression's answers for the stop set, as positions in ``classes``.
    test_accuracy : float or None
        Of the classifier that answers, in 0-1, where there are test images with labels.
    n_test : int
    """

    pool: str
    n_labels: int
    n_decisions: int
    audit: dict[str, str]
    classes: list[str]
    stop_set: list[int]
    test_accuracy: float | None
    n_test: int


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: accuracy in 0-1, with its 95 % interval by Wilson, on ``n`` images."""

    n_labels: int
    n_decisions: int
    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Gain:
    """What the last training gained in accuracy over the one before, with its 95 % interval; in -1 to 1."""

    difference: float
    low: float
    high: float


def record_training(
    names: Sequence[str],
    class_names: Sequence[str],
    audit_rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    logreg_scores: NDArray[np.float32],
    *,
    n_labels: int,
    n_decisions: int,
    test_accuracy: float | None,
    n_test: int,
) -> Record:
    """Keep of a training what it takes to compare it with others.

    Parameters
    ----------
    names, class_names : sequence of str
    audit_rows : ndarray of shape (n_audit,), int64
    scores, logreg_scores : ndarray of shape (n_images, n_classes), float32
        Of the classifier that answers, and of logistic regression, for the pool.
    n_labels, n_decisions : int
    test_accuracy : float or None
    n_test : int

    Returns
    -------
    Record
    """
    pool = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
    # The same images each time, whatever the settings are.
    stop_set = np.sort(np.random.default_rng(0).permutation(len(names))[:STOP_SET])
    return Record(
        pool=pool,
        n_labels=n_labels,
        n_decisions=n_decisions,
        audit={names[row]: class_names[scores[row].argmax()] for row in audit_rows},
        classes=list(class_names),
        stop_set=logreg_scores[stop_set].argmax(axis=1).tolist(),
        test_accuracy=test_accuracy,
        n_test=n_test,
    )


def trace_curve(records: Sequence[Record], history: History) -> list[Point]:
    """Grade each training on the audit images whose labels are known by now, or else on the test images.

    Returns
    -------
    list of Point
        Without trainings that nothing can grade.
    """
    points = []
    for record in _of_one_pool(records):
        right = list(_graded(record, history).values())
        n, n_right = len(right), sum(right)
        if not n and record.test_accuracy is not None:
            n, n_right = record.n_test, round(record.test_accuracy * record.n_test)
        if n:
            low, high = wilson_interval(n_right, n)
            points.append(Point(record.n_labels, record.n_decisions, n_right / n, low, high, n))
    return points


def compare_last(records: Sequence[Record], history: History) -> Gain | None:
    """Say what the last training gained over the one before it, on the audit images that both answered.

    Returns
    -------
    Gain or None
        By Bonett and Price's interval; None where there are not two trainings, or nothing grades them.
    """
    if len(last := _of_one_pool(records)[-2:]) < 2:
        return None
    before, after = (_graded(record, history) for record in last)
    shared = before.keys() & after.keys()
    if not (n := len(shared)):
        return None
    gained = sum(after[image] and not before[image] for image in shared)
    lost = sum(before[image] and not after[image] for image in shared)
    p_gained, p_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    middle = p_gained - p_lost
    half = Z_95 * sqrt((p_gained + p_lost - middle**2) / (n + 2))
    return Gain((gained - lost) / n, max(middle - half, -1), min(middle + half, 1))


def agreement(records: Sequence[Record]) -> list[float]:
    """Give Cohen's kappa of each pair of successive trainings, the last three at most."""
    answers = [
        # Positions move as classes are added; names do not.
        [record.classes[label] for label in record.stop_set]
        for record in _of_one_pool(records)[-(WINDOW + 1) :]
    ]
    return [cohen_kappa(before, after) for before, after in pairwise(answers)]


def advise(kappas: Sequence[float]) -> tuple[bool, str]:
    """Say whether more labels pay, and how that was decided.

    Returns
    -------
    bool
        Whether to stop.
    str
        A sentence or two.
    """
    if len(kappas) < WINDOW:
        missing = WINDOW + 1 - (len(kappas) + 1 if kappas else 0)
        return False, f"Too early to say whether more labels pay: it takes {WINDOW + 1} trainings, {missing} more."
    mean = sum(kappas) / len(kappas)
    if mean >= KAPPA:
        return True, f"More labels hardly pay: the last models agree (mean kappa {mean:.3f}, at least {KAPPA})."
    return False, f"More labels still change the model (mean kappa {mean:.3f}, below {KAPPA})."


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Give the agreement of two lists of answers beyond chance (Cohen 1960); 1 where both always say the same.

    Examples
    --------
    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.5
    """
    a, b = np.array(first), np.array(second)
    classes = np.union1d(a, b)
    by_chance = float(sum((a == name).mean() * (b == name).mean() for name in classes))
    return 1.0 if by_chance == 1 else (float((a == b).mean()) - by_chance) / (1 - by_chance)


def to_json(record: Record) -> dict[str, object]:
    """Give what stands on one line of the file of records."""
    return asdict(record)


def from_json(content: Mapping[str, object]) -> Record:
    """Read one line of that file."""
    return Record(**content)  # type: ignore[arg-type]


def read_records(path: Path) -> list[Record]:
    """Read what each training answered, nothing where there is no file; a line that a crash cut is left out."""
    records = []
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError):
                records.append(from_json(json.loads(line)))
    return records


def _of_one_pool(records: Sequence[Record]) -> list[Record]:
    """Give what can be compared; of trainings on as many labels the last, for that they agree tells nothing."""
    comparable = [record for record in records if record.pool == records[-1].pool]
    return [
        record
        for place, record in enumerate(comparable, start=1)
        if place == len(comparable) or comparable[place].n_labels != record.n_labels
    ]


def _graded(record: Record, history: History) -> dict[str, bool]:
    labels = {image: history.label(image) for image in record.audit}
    return {
        image: fold_spelling(label) == fold_spelling(record.audit[image])
        for image, label in labels.items()
        if label not in (None, CANNOT_TELL)
    }
