"""Spread each bought label over its cluster, or over only the part of it nearest the centroid.

The images near a centroid are the ones most likely to share the label of its representative: ``percentile`` trades
how many images take a label against how many of those labels are right (Géron, "Hands-On Machine Learning", chapter on
clustering for semi-supervised learning).
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from stages.artifacts import Clustering, LabelledImages, load_clustering, load_labelled, save_labelled
from stages.cli import run


def main(
    clustering: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    percentile: Annotated[float, Option(min=0, max=100)],
    training_set: Annotated[Path, Option()],
) -> None:
    partition = load_clustering(clustering)
    purchase = load_labelled(bought, n_images=len(partition.cluster))
    labelled = propagate(partition, purchase, percentile)
    save_labelled(training_set, labelled)
    print(f"{len(purchase.index)} bought labels, {len(labelled.index)} images in the training set")


def propagate(clustering: Clustering, bought: LabelledImages, percentile: float) -> LabelledImages:
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


if __name__ == "__main__":
    run(main)
