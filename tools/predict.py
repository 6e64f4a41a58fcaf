"""Classify image files that the pipeline has never seen, by what it trained.

All that lies between a file and its answer was saved by the stages: the shape of an image and the names of the classes,
what embeds an image and what makes features of that, the classifier, and how far its probabilities hold. The files are
read as ``download`` reads photos, so the same file gives the same image here and there, and the same answer.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import Classes, replacing
from few_labels.calibration import apply_temperature, average
from few_labels.errors import InputError, Kind, look_at, shorten
from few_labels.photos import Channels, Photos, read_photos
from few_labels.sheets import draw_sheet
from few_labels.stored import Rows
from stages import run
from tools.models import deserialize, read_locked

CLASSES = "data/classes.json"
METRICS = "metrics/metrics.json"
NETWORK = "models/nn.keras"
CALIBRATION = "models/nn_calibration.json"
EMBEDDER = "models/embedder.joblib"
FEATURES = "models/features.json"
KMEANS = "models/kmeans.joblib"
LOGREG = "models/logreg.joblib"

N_SHOWN = 60
UNSURE = 0.5


class Model(StrEnum):
    """Which classifier answers: the network, logistic regression, or both by the mean of their probabilities."""

    NN = "nn"
    LOGREG = "logreg"
    MEAN = "mean"


# What each classifier is made of, in the order in which its function below takes it.
PARTS = {
    Model.NN: [NETWORK, CALIBRATION, EMBEDDER],
    Model.LOGREG: [EMBEDDER, FEATURES, KMEANS, LOGREG],
    Model.MEAN: [NETWORK, CALIBRATION, EMBEDDER, FEATURES, KMEANS, LOGREG],
}


def main(
    images: Annotated[Path, Option(help="a folder of image files, or one such file")],
    out: Annotated[Path, Option(help="CSV: the answers; a picture and what is rejected go beside it")] = Path(
        "predictions.csv"
    ),
    model: Annotated[Model | None, Option(help="without, the one that labelled the pool")] = None,
    project: Annotated[Path, Option(help="the folder of dvc.lock")] = Path(),
) -> None:
    images, out = images.expanduser(), out.expanduser()
    sheet, rejected = out.with_suffix(".png"), out.with_name(f"{out.stem}_rejected.csv")
    if out.suffix != ".csv":
        raise InputError(f"out is {shorten(out)}, allowed is a name that ends in .csv")
    # There they would be taken for images next time, or overwrite one now.
    for output in (out, sheet, rejected):
        if output.resolve().is_relative_to(images.resolve()):
            raise InputError(
                f"{shorten(output)} would be among the images of {shorten(images)}: choose a place for it with --out"
            )

    if model is None:
        (graded,) = read_locked([METRICS], project)
        model = Model(json.loads(graded).get("answer", Model.NN))
    # All are checked before one is executed, and before any photo is read.
    described, *parts = read_locked([CLASSES, *PARTS[model]], project)
    classes = Classes(**json.loads(described))
    photos = read_images(images, classes.image_shape)
    row, refused = find_rows(photos)
    if not row:
        why = [
            f"; of {len(refused)} files the first is {shorten(name)}: {shorten(reason)}"
            for name, reason in refused.head(1).to_numpy()
        ]
        raise InputError(f"{shorten(images)} has no usable image{''.join(why)}")

    scores = SCORE[model](photos.images, len(classes.class_names), *parts)
    label = np.array(classes.class_names, object)[scores.argmax(axis=1)]
    confidence = scores.max(axis=1)

    with ExitStack() as whole:
        # One after the other once all are written: a disk that is full leaves those of the last time.
        table = tabulate(row, label, confidence)
        table.to_csv(whole.enter_context(replacing(out)), index=False)
        figure = draw_least_sure(photos.images, label, confidence)
        figure.savefig(whole.enter_context(replacing(sheet)), metadata={"Software": None})
        if len(refused):
            refused.to_csv(whole.enter_context(replacing(rejected)), index=False)
    if refused.empty:
        rejected.unlink(missing_ok=True)  # an earlier run's
    else:
        first, reason = map(shorten, refused.iloc[0])
        print(f"not classified: {len(refused)}, {rejected} says why; the first is {first}: {reason}")
    n_unsure = np.count_nonzero(confidence[list(row.values())] < UNSURE)
    print(f"{out}: {len(row)} answers by {model}, {n_unsure} less than {UNSURE:.0%} sure; {sheet} shows the least sure")


def read_images(images: Path, image_shape: list[int]) -> Photos:
    """Read image files as those were read that the classifiers were trained on.

    Parameters
    ----------
    images : Path
        A folder, or one file.
    image_shape : list of int
        Height, width and channels.

    Returns
    -------
    Photos

    Raises
    ------
    InputError
        If ``images`` is neither, or trained images are not square.
    """
    height, width, n_channels = image_shape
    if height != width:
        raise InputError(f"{CLASSES}: images of {height} x {width} pixels, photos are read as squares only")
    channels = Channels.GREY if n_channels == 1 else Channels.RGB
    kind = look_at(images)
    if kind is Kind.FOLDER:
        return read_photos(images, "", height, channels)
    if kind is Kind.NOTHING:
        raise InputError(f"{shorten(images)}: neither a folder nor a file, images are read from either")
    # Alone in a folder, since a folder is what photos are read from; a link would lead out of it.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(images, Path(folder, images.name))
        return read_photos(Path(folder), "", height, channels)


def find_rows(photos: Photos) -> tuple[dict[str, int], pd.DataFrame]:
    """Find the image of each file, that of a copy being its original's.

    Parameters
    ----------
    photos : Photos
        In which a copy counts as rejected.

    Returns
    -------
    dict of str to int
        The row of ``photos.images`` by the name of a file, ordered by name.
    DataFrame
        ``image`` and ``reason`` of the files without an image.
    """
    row = {name: row for row, name in enumerate(photos.name)}
    row |= {copy: row[original] for copy, original in photos.original.items()}
    refused = photos.rejected[~photos.rejected["image"].isin(row)]
    return dict(sorted(row.items())), refused.reset_index(drop=True)


def score_by_network(
    images: NDArray[np.uint8], n_classes: int, network: bytes, calibration: bytes, embedder: bytes
) -> NDArray[np.float32]:
    """Score images by the network, block by block.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
    n_classes : int
    network, calibration, embedder : bytes
        Of the files.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
        Calibrated.
    """
    # TensorFlow takes seconds to load, and the other classifier does without.
    from few_labels.network import score

    classifier = deserialize(NETWORK, network)
    seen = deserialize(EMBEDDER, embedder).transform(images) if classifier.name == "dense" else images
    scores = score(classifier, seen)
    return apply_temperature(scores, json.loads(calibration)["temperature"])


def score_by_logreg(
    images: NDArray[np.uint8], n_classes: int, embedder: bytes, features: bytes, kmeans: bytes, logreg: bytes
) -> NDArray[np.float32]:
    """Score images by logistic regression, block by block.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
    n_classes : int
    embedder, features, kmeans, logreg : bytes
        Of the files.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
    """
    from few_labels.features import ROWS_AT_ONCE, to_features
    from few_labels.logistic_regression import score

    by_distances = json.loads(features)["representation"] == "distances"
    embed, centroids = deserialize(EMBEDDER, embedder), deserialize(KMEANS, kmeans) if by_distances else None
    classifier = deserialize(LOGREG, logreg)
    scores = np.empty((len(images), n_classes), np.float32)
    for start in range(0, len(images), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scores[rows] = score(classifier, to_features(embed.transform(images[rows]), centroids), n_classes)
    return scores


def score_by_mean(
    images: NDArray[np.uint8],
    n_classes: int,
    network: bytes,
    calibration: bytes,
    embedder: bytes,
    *parts_of_logreg: bytes,
) -> NDArray[np.float32]:
    """Score images by both, and average: as `score_by_network` and `score_by_logreg`."""
    by_logreg = score_by_logreg(images, n_classes, embedder, *parts_of_logreg)
    return average(by_logreg, score_by_network(images, n_classes, network, calibration, embedder))


SCORE: dict[Model, Callable[..., NDArray[np.float32]]] = {
    Model.NN: score_by_network,
    Model.LOGREG: score_by_logreg,
    Model.MEAN: score_by_mean,
}


def tabulate(row: dict[str, int], label: NDArray[np.object_], confidence: NDArray[np.float32]) -> pd.DataFrame:
    """Give each file its answer: ``image,label,confidence``."""
    rows = list(row.values())
    return pd.DataFrame(
        {"image": list(row), "label": label[rows], "confidence": [f"{sure:.4f}" for sure in confidence[rows]]}
    )


def draw_least_sure(images: Rows, label: NDArray[np.object_], confidence: NDArray[np.float32]) -> Figure:
    """Show the images whose answers are to be trusted least, the worst first."""
    least = np.argsort(confidence, kind="stable")[:N_SHOWN]
    captions = [f"{label[row]}\n{confidence[row]:.0%}" for row in least]
    return draw_sheet(images[least], captions, f"The {len(least)} least sure of {len(images)} answers")


if __name__ == "__main__":
    run(main)
