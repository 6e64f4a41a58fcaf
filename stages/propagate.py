"""Spread each bought label over images that are like the bought one: by cluster, or by graph and logistic regression.

Where `stages.refine` trained a first network, what it learned of the images tells which of them are alike too.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import (
    load_classes,
    load_clustering,
    load_embedding,
    load_features,
    load_index,
    load_labelled,
    load_scores,
    save_labelled,
    scratch_beside,
)
from few_labels.blocks import join_columns, open_rows
from few_labels.parameters import Propagate, TrainLogreg
from few_labels.propagation import leave_out, require_two_classes, spread_by_scores, spread_over_clusters
from stages import run


def main(
    propagate: Propagate,
    percentile: float,
    train_logreg: TrainLogreg,
    clustering: Annotated[Path, Option()],
    embedding: Annotated[Path, Option()],
    classes: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    learned_embedding: Annotated[Path | None, Option(help="what a first network makes of each image")] = None,
    first_scores: Annotated[Path | None, Option(help="its scores of the classes for each image")] = None,
    audit_images: Annotated[Path | None, Option(help="what nothing may be trained on")] = None,
) -> None:
    partition = load_clustering(clustering)
    n_images, class_names = len(partition.cluster), load_classes(classes).class_names
    purchase = load_labelled(bought, n_images, len(class_names))
    require_two_classes(purchase, class_names)
    if propagate.method == "cluster":
        labelled = spread_over_clusters(partition, purchase, percentile)
    else:
        joined_embedding = training_set.with_name("joined_embedding.npy")
        with scratch_beside(training_set) as lists, scratch_beside(joined_embedding) as joined:
            X = open_rows(load_embedding(embedding, n_images))
            if learned_embedding:
                X = join_columns(X, open_rows(load_embedding(learned_embedding, n_images)), joined)
            network_scores = read_first_scores(first_scores, n_images, len(class_names))
            how = propagate, percentile, train_logreg, network_scores
            labelled = spread_by_scores(X, purchase, class_names, *how, scratch=lists)
    if audit_images:
        labelled = leave_out(labelled, load_index(audit_images, n_images))
    save_labelled(training_set, labelled)
    print(f"{len(purchase.index)} bought labels, {len(labelled.index)} images in the training set")


def read_first_scores(path: Path | None, n_images: int, n_classes: int) -> NDArray[np.float32] | None:
    """Read what a first network says, or None where there was none: a file without columns."""
    if path is None or load_features(path).shape[1] == 0:
        return None
    return load_scores(path, n_images, n_classes)


if __name__ == "__main__":
    run(main)
