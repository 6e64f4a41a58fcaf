"""Turn embedded images into the rows that logistic regression learns from: as they are, or distances to centroids."""

import json
import math
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import load_embedding, replacing
from few_labels.errors import InputError
from few_labels.images import to_rows
from few_labels.parameters import Featurize
from stages import run

ROWS_AT_ONCE = 4096


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
        embedding = load_embedding(source)
        n_features = kmeans.n_clusters if kmeans else math.prod(embedding.shape[1:])
        with replacing(destination) as temporary, temporary.open("wb") as file:
            # Written chunk by chunk: at 2000 centroids the whole would not fit in a small machine's memory.
            write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (len(embedding), n_features)}
            )
            for start in tqdm(range(0, len(embedding), ROWS_AT_ONCE), desc=destination.stem, unit="chunk"):
                rows = slice(start, start + ROWS_AT_ONCE)
                file.write(to_features(embedding[rows], kmeans).astype("<f4", copy=False).data)
    if settings:
        with replacing(settings) as temporary:
            temporary.write_text(json.dumps(featurize.model_dump()) + "\n")


def to_features(embedding: NDArray[np.uint8 | np.float32], kmeans: KMeans | None) -> NDArray[np.float32]:
    """Represent each image by one row of numbers.

    Parameters
    ----------
    embedding : ndarray of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32
        Images stand for their pixels.
    kmeans : KMeans or None
        Fitted on such an embedding: its centroids are measured to. None keeps the embedding.

    Returns
    -------
    ndarray of shape (n_images, n_pixels), (n_images, n_components) or (n_images, n_clusters), float32
        Pixels in 0-1, the embedding, or Euclidean distances in its units.
    """
    rows = to_rows(embedding)
    return kmeans.transform(rows) if kmeans else rows


if __name__ == "__main__":
    run(main)
