"""Spread each bought label over images that are like the bought one, each with a weight that says how far to trust it.

``cluster`` gives a cluster's label to its images: those near a centroid are the ones most likely to share the label of
its representative (Géron, "Hands-On Machine Learning", chapter on clustering for semi-supervised learning). ``graph``
lets labels flow along a graph of nearest neighbours (Zhou et al. 2004, "Learning with local and global consistency"),
``linear`` asks logistic regression trained on the bought labels, and ``graph-and-linear`` averages the two, which err
on different images. ``percentile`` trades how many images take a label against how many of those labels are right.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typer import Option

from stages.artifacts import Clustering, LabelledImages, load_clustering, load_embedding, load_labelled, save_labelled
from stages.cli import run
from stages.dataset import to_rows

# Of linear: what train_logreg takes too.
C, MAX_ITER = 0.3, 100


class Weighting(StrEnum):
    """How far a spread label is trusted."""

    SCORE = "score"
    EQUAL = "equal"


class Method(StrEnum):
    """Along what a label spreads."""

    CLUSTER = "cluster"
    GRAPH = "graph"
    LINEAR = "linear"
    GRAPH_AND_LINEAR = "graph-and-linear"


def main(
    clustering: Annotated[Path, Option()],
    embedding: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    percentile: Annotated[float, Option(min=0, max=100)],
    method: Annotated[Method, Option()],
    n_neighbours: Annotated[int, Option(min=1, help="of each image in the graph")],
    alpha: Annotated[float, Option(min=0, max=0.999, help="what an image takes from its neighbours in the graph")],
    weighting: Annotated[Weighting, Option(help="of a label that did not come over a cluster")],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    training_set: Annotated[Path, Option()],
) -> None:
    partition = load_clustering(clustering)
    purchase = load_labelled(bought, n_images=len(partition.cluster))
    if method is Method.CLUSTER:
        labelled = spread_over_clusters(partition, purchase, percentile)
    else:
        scores = score_classes(method, to_rows(load_embedding(embedding)), purchase, n_neighbours, alpha, seed)
        labelled = keep_surest(scores, purchase, percentile)
        if weighting is Weighting.EQUAL:
            labelled = LabelledImages(labelled.index, labelled.label)
    save_labelled(training_set, labelled)
    print(f"{len(purchase.index)} bought labels, {len(labelled.index)} images in the training set")


def spread_over_clusters(clustering: Clustering, bought: LabelledImages, percentile: float) -> LabelledImages:
    """Give the label of each cluster to its images within a percentile of distance.

    A cluster takes the label of the bought image nearest its centroid; one without a bought image gives none. A
    bought label is never overwritten, and a bought image is always in the result.

    Parameters
    ----------
    clustering : Clustering
    bought : LabelledImages
        The true labels to spread.
    percentile : float
        0-100. An image takes its cluster's label when it is no farther from the centroid than this percentile of the
        distances in its own cluster; 0 spreads nothing and 100 everything.

    Returns
    -------
    LabelledImages
        The training set: bought and spread labels.
    """
    label = pd.Series(bought.label, bought.index)
    if percentile == 0:
        spread = label.iloc[:0]
    else:
        images = pd.DataFrame({"cluster": clustering.cluster, "distance": clustering.distance_to_centroid})
        threshold = images.groupby("cluster")["distance"].quantile(percentile / 100)
        within = images[images["distance"] <= images["cluster"].map(threshold)]
        nearest_bought = images.loc[bought.index].sort_values("distance", kind="stable").drop_duplicates("cluster")
        label_of_cluster = pd.Series(label.loc[nearest_bought.index].to_numpy(), nearest_bought["cluster"])
        spread = within["cluster"].map(label_of_cluster).dropna().drop(bought.index, errors="ignore")
    labelled = pd.concat([label, spread]).sort_index()
    return LabelledImages(labelled.index.to_numpy(np.int64), labelled.to_numpy(np.uint8))


def score_classes(
    method: Method, X: NDArray[np.float32], bought: LabelledImages, n_neighbours: int, alpha: float, seed: int
) -> NDArray[np.float32]:
    """Say how likely each image is of each class, by the graph, by the linear model, or by the mean of the two.

    Parameters
    ----------
    method : Method
        Not ``cluster``.
    X : ndarray of shape (n_images, n_features), float32
    bought : LabelledImages
    n_neighbours : int
        Of each image in the graph.
    alpha : float
        0 to less than 1: what an image takes from its neighbours in the graph.
    seed : int

    Returns
    -------
    ndarray of shape (n_images, 10), float32, in 0-1
    """
    # Both take a second to load, which spreading over clusters does without.
    from stages.graph import join_neighbours, spread_over_graph
    from stages.logistic_regression import score, train

    scores = []
    if method is not Method.LINEAR:
        scores.append(spread_over_graph(join_neighbours(X, n_neighbours), bought, alpha))
    if method is not Method.GRAPH:
        scores.append(score(train(X[bought.index], bought.label, C=C, max_iter=MAX_ITER, seed=seed), X))
    return np.mean(scores, axis=0)


def keep_surest(scores: NDArray[np.float32], bought: LabelledImages, percentile: float) -> LabelledImages:
    """Give each image the label with the highest score, if it is among the surest of those that take this label.

    Parameters
    ----------
    scores : ndarray of shape (n_images, 10), float32, in 0-1
    bought : LabelledImages
        Their labels stay, with weight 1.
    percentile : float
        0-100: the share of the images of each label that keep it; 0 spreads nothing and 100 everything.

    Returns
    -------
    LabelledImages
        The training set; a weight is the score of the label.
    """
    images = pd.DataFrame({"label": scores.argmax(axis=1), "weight": scores.max(axis=1)})
    images.loc[bought.index, "label"] = bought.label
    images.loc[bought.index, "weight"] = 1
    is_bought = images.index.isin(bought.index)
    rank = images[~is_bought].groupby("label")["weight"].rank(method="first", ascending=False, pct=True)
    kept = images[is_bought | (rank.reindex(images.index, fill_value=np.inf) <= percentile / 100)]
    return LabelledImages(
        kept.index.to_numpy(np.int64), kept["label"].to_numpy(np.uint8), kept["weight"].to_numpy(np.float32)
    )


if __name__ == "__main__":
    run(main)
