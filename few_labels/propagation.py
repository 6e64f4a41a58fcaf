"""How labels spread from bought images to images that are like them, with a weight that says how far to trust each.

``cluster`` gives a cluster's label to its images: those near a centroid are the ones most likely to share the label of
its representative (Géron, "Hands-On Machine Learning", chapter on clustering for semi-supervised learning). ``graph``
lets labels flow along a graph of nearest neighbours (Zhou et al. 2004, "Learning with local and global consistency"),
``logreg`` asks logistic regression trained on the bought labels, and ``graph-and-logreg`` averages the two, which err
on different images. Where it is known how large the classes are, the scores of both are made to agree with it.
``percentile`` trades how many images take a label against how many of those labels are right.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from few_labels.artifacts import Clustering, LabelledImages
from few_labels.class_prior import match_prior, resolve_prior
from few_labels.errors import InputError
from few_labels.parameters import Propagate, SpreadingMethod, TrainLogreg
from few_labels.stored import Rows


def require_two_classes(bought: LabelledImages, class_names: list[str]) -> None:
    """Stop where the bought labels name fewer than two classes.

    Raises
    ------
    InputError
    """
    if len(found := np.unique(bought.label)) < 2:
        seen = f"all are {class_names[found[0]]!r}" if len(found) else "nothing to learn from yet"
        raise InputError(
            f"{len(bought.index)} labels, {seen}, allowed are two classes or more: make label asks for them, "
            "where select_labels.oracle is person; n_labels buys more, where it is dataset"
        )


def spread_by_scores(
    X: Rows,
    bought: LabelledImages,
    class_names: list[str],
    propagate: Propagate,
    percentile: float,
    train_logreg: TrainLogreg,
    network_scores: NDArray[np.float32] | None = None,
    scratch: Path | None = None,
) -> LabelledImages:
    """Give each image the label that graph and logistic regression say, as the parameters have it.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_images, n_features), float32
    bought : LabelledImages
    class_names : list of str
    propagate : Propagate
        Its ``method`` is not ``cluster``.
    percentile : float
        As in `keep_surest`.
    train_logreg : TrainLogreg
    network_scores : ndarray of shape (n_images, n_classes), float32, in 0-1, or None
        What a first network says.
    scratch : Path, optional
        As in `few_labels.graph.find_nearest`.

    Returns
    -------
    LabelledImages
        The training set: bought and spread labels.

    Raises
    ------
    InputError
        If ``class_prior`` does not fit the classes.
    """
    how = propagate.model_dump(exclude={"weighting", "class_prior"}) | {"train_logreg": train_logreg}
    scores = score_classes(X, bought, len(class_names), **how, network_scores=network_scores, scratch=scratch)
    if (prior := resolve_prior(propagate.class_prior, class_names)) is not None:
        scores = match_prior(scores, prior)
    labelled = keep_surest(scores, bought, percentile)
    return labelled if propagate.weighting == "score" else LabelledImages(labelled.index, labelled.label)


def leave_out(labelled: LabelledImages, rows: NDArray[np.int64]) -> LabelledImages:
    """Take images out of a training set."""
    kept = ~np.isin(labelled.index, rows)
    weight = None if labelled.weight is None else labelled.weight[kept]
    return LabelledImages(labelled.index[kept], labelled.label[kept], weight)


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
    return LabelledImages(labelled.index.to_numpy(np.int64), labelled.to_numpy(bought.label.dtype))


def score_classes(
    X: Rows,
    bought: LabelledImages,
    n_classes: int,
    *,
    method: SpreadingMethod,
    n_neighbours: int,
    alpha: float,
    n_steps: int,
    train_logreg: TrainLogreg,
    network_scores: NDArray[np.float32] | None = None,
    scratch: Path | None = None,
) -> NDArray[np.float32]:
    """Say how likely each image is of each class, by the graph, by logistic regression, or by the mean of the two.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_images, n_features), float32
    bought : LabelledImages
    n_classes : int
    method : str
        ``graph``, ``logreg`` or ``graph-and-logreg``.
    n_neighbours : int
        Of each image in the graph.
    alpha : float
        0 to less than 1: what an image takes from its neighbours in the graph.
    n_steps : int
        How often it does.
    train_logreg : TrainLogreg
        How it is trained.
    network_scores : ndarray of shape (n_images, n_classes), float32, in 0-1, or None
        What a first network says, which the mean takes in.
    scratch : Path, optional
        As in `few_labels.graph.find_nearest`.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
        All zero where no label arrives along the graph and logistic regression is not asked.
    """
    # Both take a second to load, which spreading over clusters does without.
    from few_labels.graph import join_neighbours, spread_over_graph
    from few_labels.logistic_regression import score, train_on

    scores = [] if network_scores is None else [network_scores]
    if method != "logreg":
        scores.append(spread_over_graph(join_neighbours(X, n_neighbours, scratch), bought, n_classes, alpha, n_steps))
    if method != "graph":
        scores.append(score(train_on(X, bought, **train_logreg.model_dump()), X, n_classes))
    return np.mean(scores, axis=0)


def keep_surest(scores: NDArray[np.float32], bought: LabelledImages, percentile: float) -> LabelledImages:
    """Give each image the label with the highest score, if it is among the surest of those that take this label.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), float32, in 0-1
        An image whose scores are all zero takes no label.
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
    is_candidate = ~is_bought & (images["weight"] > 0)
    rank = images[is_candidate].groupby("label")["weight"].rank(method="first", ascending=False, pct=True)
    kept = images[is_bought | (rank.reindex(images.index, fill_value=np.inf) <= percentile / 100)]
    return LabelledImages(
        kept.index.to_numpy(np.int64), kept["label"].to_numpy(bought.label.dtype), kept["weight"].to_numpy(np.float32)
    )
