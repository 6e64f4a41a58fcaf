"""Buy labels and write what to ask next: the data set's known labels answer at once, or a person does in time.

Of the known labels only the rows that were asked for are read. What a person answered stands in the ledger, and all of
it counts, whatever the settings were when it was asked for.
"""

import json
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import (
    UNKNOWN,
    Classes,
    LabelledImages,
    label_type,
    load_classes,
    load_clustering,
    load_embedding,
    load_images,
    load_labels,
    load_names,
    replacing,
    save_classes,
    save_labelled,
)
from few_labels.blocks import open_rows
from few_labels.errors import InputError
from few_labels.ledger import Resolved, read_history, resolve
from few_labels.parameters import SelectLabels, TrainLogreg
from few_labels.query import Pool, Strategy, draw_audit, plan_rounds, query
from few_labels.sheets import shorten, tile
from few_labels.stored import Rows
from stages import run

SHEET_COLUMNS = 50
SHEET_ROWS_PER_CLASS = 5
SHEET_CLASSES = 40
# One query in so many is about an audit image, as long as there are any.
AUDIT_SPACING = 4
QUERY_COLUMNS = ["image", "cluster", "guess", "sureness", "audit"]


@dataclass(frozen=True)
class Answered:
    """What is known by now, what it took, and what to ask next.

    Attributes
    ----------
    class_names : list of str
    bought : LabelledImages
        To learn from.
    audited : LabelledImages
        To grade by, and never to learn from.
    next_rows : ndarray of shape (n_queries,), int64
        Rows of the pool in order of use.
    n_decisions : int
        One may have labelled many images. All that people took count, also what was taken back later; of a data set's
        known labels each is one.
    n_cannot_tell : int
        Images about which a person was asked and could not tell.
    """

    class_names: list[str]
    bought: LabelledImages
    audited: LabelledImages
    next_rows: NDArray[np.int64]
    n_decisions: int
    n_cannot_tell: int


def main(
    select_labels: SelectLabels,
    train_logreg: TrainLogreg,
    seed: int,
    download__dataset: str,
    images: Annotated[Path, Option()],
    labels: Annotated[Path, Option(help="the known labels, of which the rows asked for are read")],
    known_classes: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    clustering: Annotated[Path | None, Option(help="what representative and margin choose from")] = None,
    embedding: Annotated[Path | None, Option(help="what margin's classifier sees")] = None,
    names: Annotated[Path | None, Option()] = None,
    ledgers: Annotated[Path | None, Option(help="a folder: what people answered, a file a data set")] = None,
    classes: Annotated[Path | None, Option(help="the known classes, and those that people added")] = None,
    queries: Annotated[Path | None, Option(help="what to ask a person next, in order of use")] = None,
    audit_images: Annotated[Path | None, Option(help="what nothing may be trained on")] = None,
    audit_labels: Annotated[Path | None, Option(help="the labels of audit images that are known by now")] = None,
    contact_sheet: Annotated[Path | None, Option(help="a picture of the bought images, where one is wanted")] = None,
    metrics: Annotated[Path | None, Option(help="how many labels there are, and how many decisions they took")] = None,
) -> None:
    pictures = load_images(images)
    n_images = len(pictures)
    known = load_classes(known_classes)
    name = load_names(names, n_images) if names else [str(row) for row in range(n_images)]
    partition = load_clustering(clustering, n_images) if clustering else None
    rows = partial(read_rows, embedding, n_images) if embedding else None
    strategy, n_labels = Strategy(select_labels.strategy), select_labels.n_labels
    pool = Pool(n_images, partition, rows, train_logreg, seed)
    audit = draw_audit(name, choose_n_audit(select_labels.n_audit, known, n_images), seed)

    if select_labels.oracle == "dataset":
        true_labels = load_labels(labels, n_images)
        answered = ask_data_set(pool, strategy, true_labels, known.class_names, n_labels, select_labels.n_rounds, audit)
    else:
        ledger = ledgers / f"{download__dataset}.csv" if ledgers else None
        answers, n_decisions = read_answers(ledger, known, name)
        answered = ask_person(pool, strategy, answers, n_decisions, select_labels.n_queries, audit)
    asked_next = list_queries(pool, name, answered.class_names, answered.bought, answered.next_rows, audit)

    named = (name, answered.class_names) if names else ()
    save_labelled(bought, answered.bought, *named)
    if classes:
        save_classes(classes, replace(known, class_names=answered.class_names))
    if audit_labels:
        save_labelled(audit_labels, answered.audited, *named)
    for path, table in (
        (queries, asked_next),
        (audit_images, pd.DataFrame({"index": np.sort(audit), "image": [name[row] for row in np.sort(audit)]})),
    ):
        if path:
            with replacing(path) as temporary:
                table.to_csv(temporary, index=False)
    if contact_sheet:
        with replacing(contact_sheet) as temporary:
            sheet = draw_contact_sheet(pictures[answered.bought.index], answered.bought.label, answered.class_names)
            sheet.savefig(temporary, metadata={"Software": None})
    if metrics:
        with replacing(metrics) as temporary:
            temporary.write_text(json.dumps(count_labelling(answered), indent=2) + "\n")
    print(
        f"{len(answered.bought.index)} labels bought, strategy {strategy}; {len(answered.audited.index)} more for the "
        f"audit, {len(answered.next_rows)} images to ask about next"
    )


def read_rows(embedding: Path, n_images: int) -> Rows:
    """Read what classifiers see of the pool."""
    return open_rows(load_embedding(embedding, n_images))


def read_answers(ledger: Path | None, known: Classes, names: list[str]) -> tuple[Resolved, int]:
    """Read what people answered and how many decisions that took, and say of each line that cannot be used why."""
    if ledger is None:
        raise InputError("oracle person answers in a ledger, and none was given")
    history, warnings = read_history(ledger)
    resolved, more_warnings = resolve(history.answers(), known.class_names, names)
    for warning in warnings + more_warnings:
        print(f"select-labels: {warning}", file=sys.stderr)
    return resolved, history.n_decisions


def choose_n_audit(n_audit: int | Literal["auto"], known: Classes, n_images: int) -> int:
    """Say how many images are for the audit.

    Parameters
    ----------
    n_audit : int or str
        A number, or ``auto``: none where test images have labels, else 100, and at most a fifth of the pool.
    known : Classes
    n_images : int
        Of the pool.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If it leaves nothing to train on.
    """
    if n_audit == "auto":
        return 0 if known.n_labelled_test_images else min(100, n_images // 5)
    if n_audit >= n_images:
        raise InputError(f"select_labels.n_audit is {n_audit}, allowed are auto and 0 to {n_images - 1}")
    return n_audit


def ask_data_set(
    pool: Pool,
    strategy: Strategy,
    labels: NDArray[np.int16],
    class_names: list[str],
    n_labels: int,
    n_rounds: int,
    audit: NDArray[np.int64],
) -> Answered:
    """Let the known labels answer, all at once; nothing is left to ask."""
    bought = buy_known(pool, strategy, labels, len(class_names), n_labels, n_rounds, audit)
    audited = label_rows(audit, labels[audit], len(class_names))
    n_decisions = len(bought.index) + len(audited.index)
    return Answered(class_names, bought, audited, np.empty(0, np.int64), n_decisions, n_cannot_tell=0)


def ask_person(
    pool: Pool,
    strategy: Strategy,
    answers: Resolved,
    n_decisions: int,
    n_queries: int,
    audit: NDArray[np.int64],
) -> Answered:
    """Take what people answered so far, and choose what to ask them next.

    No budget ends this: one decision may label a whole cluster, and people stop when they like.

    Parameters
    ----------
    pool : Pool
    strategy : Strategy
    answers : Resolved
        All of them count, whatever the settings were when they were asked for.
    n_decisions : int
        That led to them.
    n_queries : int
        How many images to ask about at most.
    audit : ndarray of shape (n_audit,), int64

    Returns
    -------
    Answered
    """
    n_classes, is_audit = len(answers.class_names), np.isin(answers.row, audit)
    bought = label_rows(answers.row[~is_audit], answers.label[~is_audit], n_classes)
    audited = label_rows(answers.row[is_audit], answers.label[is_audit], n_classes)
    to_train = query(strategy, pool, bought, np.union1d(answers.row, audit), n_queries)
    to_audit = audit[~np.isin(audit, answers.row)]
    next_rows = interleave(to_train, to_audit)[:n_queries]
    n_cannot_tell = int(np.count_nonzero(answers.label == UNKNOWN))
    return Answered(answers.class_names, bought, audited, next_rows, n_decisions, n_cannot_tell)


def count_labelling(answered: Answered) -> dict[str, dict[str, int]]:
    """Count what is known, and what it took.

    Parameters
    ----------
    answered : Answered

    Returns
    -------
    dict
        ``labelling``: how many images have ``labels``, to learn from or to grade by; how many ``decisions`` were taken,
        also those about images that are gone; and about how many images people ``cannot_tell``.
    """
    return {
        "labelling": {
            "labels": len(answered.bought.index) + len(answered.audited.index),
            "decisions": answered.n_decisions,
            "cannot_tell": answered.n_cannot_tell,
        }
    }


def buy_known(
    pool: Pool,
    strategy: Strategy,
    labels: NDArray[np.int16],
    n_classes: int,
    n_labels: int,
    n_rounds: int,
    audit: NDArray[np.int64],
) -> LabelledImages:
    """Spend a budget at once: ask round after round, and let the known labels answer.

    Parameters
    ----------
    pool : Pool
    strategy : Strategy
    labels : ndarray of shape (n_images,), int16
        Only the rows asked for are read. -1 is no answer, and costs nothing.
    n_classes : int
    n_labels : int
        At most so many are bought, and at most all.
    n_rounds : int
    audit : ndarray of shape (n_audit,), int64
        Rows that are not for sale.

    Returns
    -------
    LabelledImages

    Raises
    ------
    InputError
        If nobody knows any label.
    """
    asked, bought = audit, label_rows(np.empty(0, np.int64), np.empty(0, np.int16), n_classes)
    for total in plan_rounds(strategy, pool, n_labels, n_rounds):
        while (n_wanted := total - len(bought.index)) > 0:
            rows = query(strategy, pool, bought, asked, n_wanted)
            if not len(rows):
                break
            asked = np.concatenate([asked, rows])
            index = np.union1d(bought.index, rows[labels[rows] != UNKNOWN])
            bought = label_rows(index, labels[index], n_classes)
    if not len(bought.index):
        raise InputError(
            f"none of the {len(asked)} images asked about has a known label: "
            "set select_labels.oracle to person, and answer with make label"
        )
    if len(bought.index) < n_labels and strategy is not Strategy.ALL:
        print(f"n_labels is {n_labels}, the pool has {len(bought.index)} labels to buy")
    return bought


def label_rows(row: NDArray[np.int64], label: NDArray[np.integer], n_classes: int) -> LabelledImages:
    """Give rows their labels, in ascending order, without those about which nobody could tell."""
    order = np.argsort(row)
    order = order[label[order] != UNKNOWN]
    return LabelledImages(row[order], label[order].astype(label_type(n_classes)))


def interleave(to_train: NDArray[np.int64], to_audit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ask about an audit image now and then, so that the grade is known early and learning does not wait for it.

    Parameters
    ----------
    to_train, to_audit : ndarray of shape (n,), int64
        Rows in order of use.

    Returns
    -------
    ndarray of shape (n_queries,), int64
        Every fourth is one to audit, as long as there are both.
    """
    train_place = np.arange(len(to_train)) * AUDIT_SPACING / (AUDIT_SPACING - 1)
    audit_place = (np.arange(len(to_audit)) + 1) * AUDIT_SPACING - 1
    place = np.concatenate([train_place, audit_place])
    return np.concatenate([to_train, to_audit])[np.argsort(place, kind="stable")]


def list_queries(
    pool: Pool,
    names: list[str],
    class_names: list[str],
    known: LabelledImages,
    order: NDArray[np.int64],
    audit: NDArray[np.int64],
) -> pd.DataFrame:
    """Tabulate what to ask next, with what helps to show it.

    Parameters
    ----------
    pool : Pool
    names, class_names : list of str
    known : LabelledImages
        With two classes at least, logistic regression on them gives a guess for each image.
    order : ndarray of shape (n_queries,), int64
        Rows in order of use.
    audit : ndarray of shape (n_audit,), int64

    Returns
    -------
    DataFrame
        ``image``, ``cluster``, ``guess`` (a class's name, empty without), ``sureness`` of the guess in 0-1, and
        ``audit``: whether the answer is for grading alone.
    """
    table = pd.DataFrame({"image": [names[row] for row in order]}, dtype=object)
    table["cluster"] = pool.clustering.cluster[order] if pool.clustering else ""
    table["guess"], table["sureness"] = "", ""
    if len(order) and len(np.unique(known.label)) > 1 and pool.embedding is not None:
        from few_labels.logistic_regression import score, train_on

        X = pool.embedding()
        classifier = train_on(X, known, **pool.train_logreg.model_dump())
        scores = score(classifier, X[order], len(class_names))
        # An audit image is to be answered without a guess to lean on: the guess is what it grades.
        is_guessed = ~np.isin(order, audit)
        table.loc[is_guessed, "guess"] = [class_names[label] for label in scores[is_guessed].argmax(axis=1)]
        table.loc[is_guessed, "sureness"] = [f"{sureness:.3f}" for sureness in scores[is_guessed].max(axis=1)]
    table["audit"] = np.isin(order, audit)
    return table[QUERY_COLUMNS]


def draw_contact_sheet(images: NDArray[np.uint8], labels: NDArray[np.integer], class_names: list[str]) -> Figure:
    """Show the bought images class by class; of a class with more than fits, the first ones.

    Parameters
    ----------
    images : ndarray of shape (n_bought, height, width, channels), uint8
    labels : ndarray of shape (n_bought,), unsigned integer
    class_names : list of str
        Of more than fit, those with the most labels are shown.

    Returns
    -------
    matplotlib.figure.Figure
    """
    most = SHEET_COLUMNS * SHEET_ROWS_PER_CLASS
    n_bought = np.bincount(labels, minlength=len(class_names))
    shown_classes = np.sort(np.argsort(-n_bought, kind="stable")[:SHEET_CLASSES])
    n_rows = [max(1, -(-min(n_bought[c], most) // SHEET_COLUMNS)) for c in shown_classes]
    figure = Figure(figsize=(14, 1 + 0.27 * sum(n_rows) + 0.1 * len(n_rows)), layout="constrained")
    bands = figure.subplots(max(1, len(n_rows)), height_ratios=n_rows or None, squeeze=False)[:, 0]
    for axes in bands:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for class_number, axes, rows in zip(shown_classes, bands, n_rows, strict=False):
        axes.imshow(tile(images[labels == class_number][:most], rows, SHEET_COLUMNS))
        label = f"{shorten(class_names[class_number])}\n{n_bought[class_number]}"
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11, parse_math=False)
    more = f", at most {most} of a class shown" if len(n_bought) and n_bought.max() > most else ""
    fewer = f", {SHEET_CLASSES} of {len(class_names)} classes shown" if len(class_names) > SHEET_CLASSES else ""
    figure.suptitle(f"The {len(labels):,} images whose labels were bought{more}{fewer}")
    return figure


if __name__ == "__main__":
    run(main)
