"""Turn embedded images into the rows that logistic regression learns from: as they are, or distances to centroids."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from typer import Option

from few_labels.artifacts import load_embedding, replacing
from few_labels.blocks import cut, open_array, run_partitions
from few_labels.errors import InputError
from few_labels.features import ROWS_AT_ONCE, to_features
from few_labels.parameters import Featurize
from few_labels.stored import Stored
from stages import run


def main(
    featurize: Featurize,
    train_embedding: Annotated[Path, Option()],
    test_embedding: Annotated[Path, Option()],
    train_features: Annotated[Path, Option()],
    test_features: Annotated[Path, Option()],
    model: Annotated[Path | None, Option(help="the fitted k-means that distances are measured to")] = None,
    settings: Annotated[Path | None, Option(help="JSON: how other images get the same features")] = None,
) -> None:
    by_distances = featurize.representation == "distances"
    if by_distances and model is None:
        raise InputError("distances are measured to the centroids of a model, and none was given")
    kmeans = joblib.load(model) if model and by_distances else None
    for source, destination in ((train_embedding, train_features), (test_embedding, test_features)):
        embedding = open_array(load_embedding(source))
        n_features = kmeans.n_clusters if kmeans else math.prod(embedding.shape[1:])
        with replacing(destination) as temporary:
            # Written as it comes: at 2000 centroids the whole would not fit in a small machine's memory.
            out = Stored.create(temporary, (len(embedding), n_features), np.float32)
            partitions = cut(len(embedding), ROWS_AT_ONCE)
            run_partitions(
                partial(to_features, kmeans=kmeans), embedding, out=out, partitions=partitions, title=destination.stem
            )
    if settings:
        with replacing(settings) as temporary:
            temporary.write_text(json.dumps(featurize.model_dump()) + "\n")


if __name__ == "__main__":
    run(main)
