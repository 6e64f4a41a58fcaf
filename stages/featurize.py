"""Turn images into the rows that logistic regression learns from: their pixels, or their distances to the centroids."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from tqdm import tqdm
from typer import Option

from stages.artifacts import load_images, replacing
from stages.cli import InputError, run
from stages.dataset import to_pixel_vectors

ROWS_AT_ONCE = 4096


class Representation(StrEnum):
    """What stands for an image."""

    PIXELS = "pixels"
    DISTANCES = "distances"


def main(
    train_images: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    representation: Annotated[Representation, Option()],
    train_features: Annotated[Path, Option()],
    test_features: Annotated[Path, Option()],
    model: Annotated[Path | None, Option(help="the fitted k-means that distances are measured to")] = None,
) -> None:
    if representation is Representation.DISTANCES and model is None:
        raise InputError("distances are measured to the centroids of a model, and none was given")
    kmeans = joblib.load(model) if model and representation is Representation.DISTANCES else None
    for source, destination in ((train_images, train_features), (test_images, test_features)):
        images = load_images(source)
        n_features = kmeans.n_clusters if kmeans else images[0].size
        with replacing(destination) as temporary, temporary.open("wb") as file:
            # Written chunk by chunk: at 2000 centroids the whole would not fit in a small machine's memory.
            write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (len(images), n_features)})
            for start in tqdm(range(0, len(images), ROWS_AT_ONCE), desc=destination.stem, unit="chunk"):
                rows = slice(start, start + ROWS_AT_ONCE)
                file.write(featurize(images[rows], kmeans).astype("<f4", copy=False).data)


def featurize(images: NDArray[np.uint8], kmeans: KMeans | None) -> NDArray[np.float32]:
    """Represent each image by one row of numbers.

    Parameters
    ----------
    images : ndarray of shape (n_images, 28, 28), uint8
    kmeans : KMeans or None
        Fitted on pixels in 0-1: its centroids are measured to. None keeps the pixels.

    Returns
    -------
    ndarray of shape (n_images, 784) or (n_images, n_clusters), float32
        Pixels in 0-1, or Euclidean distances in those units.
    """
    pixels = to_pixel_vectors(images)
    return kmeans.transform(pixels) if kmeans else pixels


if __name__ == "__main__":
    run(main)
