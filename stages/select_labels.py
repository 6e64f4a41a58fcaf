"""Choose the images whose labels are worth buying, and read those labels and no others.

``representative`` buys one label a cluster, that of the image nearest the centroid, so that the budget covers the data
evenly; ``margin`` begins with those and goes on with the images that a classifier trained so far finds hardest to
tell; ``random`` and ``first`` are what both are measured against, and ``all`` is the ceiling.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typer import Option

from stages.artifacts import (
    Clustering,
    LabelledImages,
    load_clustering,
    load_embedding,
    load_images,
    load_labels,
    replacing,
    save_labelled,
)
from stages.cli import InputError, run
from stages.dataset import CLASS_NAMES, IMAGE_SHAPE, to_rows

SHEET_COLUMNS = 50
SHEET_ROWS_PER_CLASS = 5
N_ROUNDS = 8
# Of the classifier that margins are taken from: what train_logreg takes too.
C, MAX_ITER = 0.3, 100


class Strategy(StrEnum):
    """How the images to label are chosen."""

    REPRESENTATIVE = "representative"
    MARGIN = "margin"
    RANDOM = "random"
    FIRST = "first"
    ALL = "all"


def main(
    images: Annotated[Path, Option()],
    labels: Annotated[Path, Option()],
    strategy: Annotated[Strategy, Option()],
    n_labels: Annotated[int, Option(min=1, help="the budget of margin, random and first")],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    bought: Annotated[Path, Option()],
    clustering: Annotated[Path | None, Option(help="what representative and margin choose from")] = None,
    embedding: Annotated[Path | None, Option(help="what margin's classifier sees")] = None,
    contact_sheet: Annotated[Path | None, Option(help="a picture of the bought images, where one is wanted")] = None,
) -> None:
    pictures = load_images(images)
    true_labels = load_labels(labels)
    partition = load_clustering(clustering) if clustering else None
    if strategy is Strategy.MARGIN:
        if partition is None or embedding is None:
            raise InputError("strategy margin chooses by a clustering and an embedding, and one was not given")
        index = choose_by_margin(to_rows(load_embedding(embedding)), partition, true_labels, n_labels, seed)
    else:
        index = choose(strategy, partition.representative if partition else None, len(pictures), n_labels, seed)
    purchase = LabelledImages(index, true_labels[index])
    save_labelled(bought, purchase)
    if contact_sheet:
        with replacing(contact_sheet) as temporary:
            draw_contact_sheet(pictures[index], purchase.label).savefig(temporary, metadata={"Software": None})
    print(f"{len(index)} labels bought, strategy {strategy}")


def choose(
    strategy: Strategy, representative: NDArray[np.int64] | None, n_images: int, n_labels: int, seed: int
) -> NDArray[np.int64]:
    """Choose the images to label.

    Parameters
    ----------
    strategy : Strategy
    representative : ndarray of shape (n_clusters,), int64, or None
        The image nearest each centroid, -1 for an empty cluster: the whole choice of ``representative``, and ignored by
        the others.
    n_images : int
    n_labels : int
        The budget of ``random`` (a uniform draw without replacement) and of ``first``; the others ignore it.
    seed : int
        Makes the draw repeatable.

    Returns
    -------
    ndarray of shape (n_bought,), int64
        Ascending indices.

    Raises
    ------
    InputError
        If the budget is larger than the number of images, or there are no representatives to choose.
    """
    if strategy is Strategy.REPRESENTATIVE:
        if representative is None:
            raise InputError("strategy representative chooses from a clustering, and none was given")
        return np.sort(representative[representative >= 0])
    if strategy is Strategy.ALL:
        return np.arange(n_images)
    if n_labels > n_images:
        raise InputError(f"n_labels is {n_labels}, allowed are 1 to {n_images}, the number of training images")
    if strategy is Strategy.FIRST:
        return np.arange(n_labels)
    return np.sort(np.random.default_rng(seed).choice(n_images, n_labels, replace=False))


def choose_by_margin(
    X: NDArray[np.float32], clustering: Clustering, labels: NDArray[np.uint8], n_labels: int, seed: int
) -> NDArray[np.int64]:
    """Choose the representatives, and then round after round the images that are hardest to tell, from many clusters.

    Each round trains logistic regression on the labels bought so far. An image's margin is the difference between the
    probabilities of its two likeliest classes (Scheffer, Decomain and Wrobel 2001, "Active hidden Markov models for
    information extraction"); a round takes the smallest margins, one from a cluster at most, so that it does not buy
    the same doubt many times (Citovsky et al. 2021, "Batch active learning at scale").

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features), float32
    clustering : Clustering
    labels : ndarray of shape (n_images,), uint8
        Only the rows that are bought are read.
    n_labels : int
        The budget.
    seed : int

    Returns
    -------
    ndarray of shape (n_labels,), int64
        Ascending indices.

    Raises
    ------
    InputError
        If the budget is larger than the number of images, or smaller than that of the representatives.
    """
    # Logistic regression takes a second to load, which the other strategies do without.
    from stages.logistic_regression import score, train

    bought = np.sort(clustering.representative[clustering.representative >= 0])
    if not len(bought) <= n_labels <= len(X):
        raise InputError(
            f"n_labels is {n_labels}, allowed are {len(bought)} to {len(X)}, the number of clusters to that of images"
        )
    for rounds_left in range(N_ROUNDS, 0, -1):
        n_wanted = round((n_labels - len(bought)) / rounds_left)
        classifier = train(X[bought], labels[bought], C=C, max_iter=MAX_ITER, seed=seed)
        second, first = np.partition(score(classifier, X), -2, axis=1)[:, -2:].T
        margin = first - second
        margin[bought] = np.inf
        hardest_first = np.argsort(margin, kind="stable")[: len(X) - len(bought)]
        _, first_of_cluster = np.unique(clustering.cluster[hardest_first], return_index=True)
        one_a_cluster = hardest_first[np.sort(first_of_cluster)]
        others = np.delete(hardest_first, first_of_cluster)
        bought = np.union1d(bought, np.concatenate([one_a_cluster, others])[:n_wanted])
    return bought


def draw_contact_sheet(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Figure:
    """Show the bought images class by class; of a class with more than fits, the first ones.

    Parameters
    ----------
    images : ndarray of shape (n_bought, 28, 28), uint8
    labels : ndarray of shape (n_bought,), uint8

    Returns
    -------
    matplotlib.figure.Figure
    """
    height, width = IMAGE_SHAPE
    most = SHEET_COLUMNS * SHEET_ROWS_PER_CLASS
    n_bought = np.bincount(labels, minlength=len(CLASS_NAMES))
    n_rows = [max(1, -(-min(n, most) // SHEET_COLUMNS)) for n in n_bought]
    figure = Figure(figsize=(14, 1 + 0.27 * sum(n_rows) + 0.1 * len(n_rows)), layout="constrained")
    bands = figure.subplots(len(CLASS_NAMES), height_ratios=n_rows)
    for class_number, (axes, rows) in enumerate(zip(bands, n_rows, strict=True)):
        band = np.full((rows * SHEET_COLUMNS, height, width), 255, np.uint8)
        shown = images[labels == class_number][:most]
        band[: len(shown)] = 255 - shown
        mosaic = band.reshape(rows, SHEET_COLUMNS, height, width).swapaxes(1, 2)
        axes.imshow(mosaic.reshape(rows * height, SHEET_COLUMNS * width), cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(
            f"{CLASS_NAMES[class_number]}\n{n_bought[class_number]}", rotation=0, ha="right", va="center", fontsize=11
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    more = f", at most {most} of a class shown" if n_bought.max() > most else ""
    figure.suptitle(f"The {len(labels):,} images whose labels were bought{more}")
    return figure


if __name__ == "__main__":
    run(main)
