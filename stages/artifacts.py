"""The files that pass between stages: how each is laid out, checked on the way in, and written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.cli import InputError
from stages.dataset import CLASS_NAMES, IMAGE_SHAPE


@dataclass(frozen=True)
class Clustering:
    """The partition of the training images that k-means found.

    Attributes
    ----------
    cluster : ndarray of shape (n_images,), int32
        The cluster of each image.
    distance_to_centroid : ndarray of shape (n_images,), float32
        The Euclidean distance of each image to the centroid of its cluster.
    representative : ndarray of shape (n_clusters,), int64
        The image nearest each centroid among the images of that cluster; -1 where a cluster is empty.
    """

    cluster: NDArray[np.int32]
    distance_to_centroid: NDArray[np.float32]
    representative: NDArray[np.int64]


@dataclass(frozen=True)
class LabelledImages:
    """Training images by index, each with a label: bought, or spread from a bought one.

    Attributes
    ----------
    index : ndarray of shape (n_labelled,), int64
        Positions among the training images, ascending.
    label : ndarray of shape (n_labelled,), uint8
        The class of each, 0-9.
    weight : ndarray of shape (n_labelled,), float32, or None
        How far each label is trusted, in 0-1; None where all are alike.
    """

    index: NDArray[np.int64]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32] | None = None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, and rename it to ``path`` when the block ends well.

    A process that dies inside the block leaves ``path`` as it was.

    Parameters
    ----------
    path : Path
        Where the whole file is to stand; its folder is made where it is missing.

    Yields
    ------
    Path
        The name to write to: in the same folder, with the same suffix, for writers that look at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one array as ``.npy``."""
    with replacing(path) as temporary:
        np.save(temporary, array)


def load_images(path: Path) -> NDArray[np.uint8]:
    """Map images from disk without reading them.

    Returns
    -------
    ndarray of shape (n_images, 28, 28), uint8

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    images = _map_array(path)
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise InputError(f"{path}: {images.dtype} of shape {images.shape}, images are uint8 of shape (n, 28, 28)")
    return images


def load_labels(path: Path) -> NDArray[np.uint8]:
    """Map labels from disk without reading them, so that a stage reads the rows it takes and no other.

    Returns
    -------
    ndarray of shape (n_images,), uint8

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    labels = _map_array(path)
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise InputError(f"{path}: {labels.dtype} of shape {labels.shape}, labels are uint8 of shape (n,)")
    return labels


def load_embedding(path: Path) -> NDArray[np.uint8 | np.float32]:
    """Map an embedding from disk without reading it: images, which stand for their pixels, or rows of features.

    Returns
    -------
    ndarray of shape (n_images, 28, 28), uint8, or of shape (n_images, n_components), float32

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    return load_images(path) if _map_array(path).dtype == np.uint8 else load_features(path)


def load_features(path: Path) -> NDArray[np.float32]:
    """Map features from disk without reading them.

    Returns
    -------
    ndarray of shape (n_images, n_features), float32

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    features = _map_array(path)
    if features.dtype != np.float32 or features.ndim != 2:
        raise InputError(f"{path}: {features.dtype} of shape {features.shape}, features are float32 of shape (n, d)")
    return features


def load_scores(path: Path) -> NDArray[np.float32]:
    """Read a classifier's scores.

    Returns
    -------
    ndarray of shape (n_images, 10), float32
        Of each class for each image; the answer is the class with the highest.

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    scores = _map_array(path)
    if scores.dtype != np.float32 or scores.shape[1:] != (len(CLASS_NAMES),):
        raise InputError(f"{path}: {scores.dtype} of shape {scores.shape}, scores are float32 of shape (n, 10)")
    return np.array(scores)


def save_clustering(path: Path, clustering: Clustering) -> None:
    """Write a clustering as ``.npz``, an array for each attribute."""
    with replacing(path) as temporary:
        np.savez(
            temporary,
            cluster=clustering.cluster,
            distance_to_centroid=clustering.distance_to_centroid,
            representative=clustering.representative,
        )


def load_clustering(path: Path) -> Clustering:
    """Read a clustering.

    Raises
    ------
    InputError
        If an array is missing or their lengths do not fit.
    """
    try:
        with np.load(path) as arrays:
            clustering = Clustering(**arrays)
    except (BadZipFile, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a clustering ({error})") from error
    if len(clustering.cluster) != len(clustering.distance_to_centroid):
        raise InputError(
            f"{path}: {len(clustering.cluster)} clusters for {len(clustering.distance_to_centroid)} distances, "
            "each image has one of both"
        )
    return clustering


def save_labelled(path: Path, labelled: LabelledImages) -> None:
    """Write labelled images as CSV: ``index,label``, and ``weight`` where labels are not all alike."""
    table = pd.DataFrame({"index": labelled.index, "label": labelled.label})
    if labelled.weight is not None:
        table["weight"] = labelled.weight
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def load_labelled(path: Path, n_images: int) -> LabelledImages:
    """Read labelled images and check that each is one of ``n_images`` and named once.

    Raises
    ------
    InputError
        If a column is missing, an index is repeated, or an index, a label or a weight is out of range.
    """
    try:
        table = pd.read_csv(path, dtype={"index": np.int64, "label": np.uint8, "weight": np.float32})
    except ValueError as error:
        raise InputError(f"{path}: not a table of index,label ({error})") from error
    if list(table.columns) not in (["index", "label"], ["index", "label", "weight"]):
        raise InputError(
            f"{path}: columns {list(table.columns)}, labelled images have index,label or index,label,weight"
        )
    index, label = table["index"].to_numpy(), table["label"].to_numpy()
    weight = table["weight"].to_numpy() if "weight" in table else None
    if len(index) and not (index.min() >= 0 and index.max() < n_images and (np.diff(index) > 0).all()):
        raise InputError(f"{path}: an index is repeated, unsorted or outside 0 to {n_images - 1}")
    if len(label) and label.max() >= len(CLASS_NAMES):
        raise InputError(f"{path}: label {label.max()}, allowed are 0 to {len(CLASS_NAMES) - 1}")
    if weight is not None and not ((weight >= 0) & (weight <= 1)).all():
        raise InputError(f"{path}: a weight is missing or outside 0 to 1")
    return LabelledImages(index, label, weight)


def _map_array(path: Path) -> NDArray:
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not an array ({error})") from error
