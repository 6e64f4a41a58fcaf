"""The files that pass between stages: how each is laid out, checked on the way in, and written whole or not at all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from few_labels.errors import InputError, quote, shorten
from few_labels.stored import Rows, Stored, list_parts, remove

UNKNOWN = -1


@dataclass(frozen=True)
class Classes:
    """What is known of a data set beside its images.

    Attributes
    ----------
    class_names : list of str
        A label is a position in it.
    image_shape : list of int
        Height, width and channels, of which there is 1 for grey and 3 for RGB.
    n_labelled_test_images : int
        How many test images have a known label, and so can grade.
    """

    class_names: list[str]
    image_shape: list[int]
    n_labelled_test_images: int


@dataclass(frozen=True)
class Clustering:
    """The partition of the pool that k-means found.

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
    """Images of the pool by row, each with a label: bought, or spread from a bought one.

    Attributes
    ----------
    index : ndarray of shape (n_labelled,), int64
        Rows of the pool, ascending.
    label : ndarray of shape (n_labelled,), unsigned integer
        The class of each.
    weight : ndarray of shape (n_labelled,), float32, or None
        How far each label is trusted, in 0-1; None where all are alike.
    """

    index: NDArray[np.int64]
    label: NDArray[np.unsignedinteger]
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
    remove(temporary)
    try:
        yield temporary
        if list_parts(path) or (temporary.is_dir() and path.is_file()):
            # A file and a folder do not take the place of each other by themselves; any other folder stays.
            remove(path)
        temporary.replace(path)
    except OSError as error:
        # What cannot be written is the file that somebody knows of.
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        remove(temporary)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` for an array that a stage keeps in a file while it runs, and nobody after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial.npy")
    try:
        yield temporary
    finally:
        remove(temporary)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one array as ``.npy``."""
    with replacing(path) as temporary:
        np.save(temporary, array)


def load_images(path: Path) -> Rows:
    """Map images from disk without reading them.

    Returns
    -------
    ndarray or Stored of shape (n_images, height, width, channels), uint8

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    images = _open_array(path)
    if images.dtype != np.uint8 or len(images.shape) != 4:
        raise InputError(
            f"{path}: {images.dtype} of shape {images.shape}, images are uint8 of shape (n, height, width, channels)"
        )
    return images


def load_labels(path: Path, n_images: int | None = None) -> NDArray[np.int16]:
    """Map labels from disk without reading them, so that a stage reads the rows it takes and no other.

    Returns
    -------
    ndarray of shape (n_images,), int16
        Positions among the class names, -1 where nobody knows.

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    labels = _open_array(path)
    if (
        isinstance(labels, Stored)
        or labels.dtype != np.int16
        or labels.ndim != 1
        or n_images not in (None, len(labels))
    ):
        expected = "n" if n_images is None else n_images
        raise InputError(f"{path}: {labels.dtype} of shape {labels.shape}, labels are int16 of shape ({expected},)")
    return labels


def load_embedding(path: Path, n_images: int | None = None) -> Rows:
    """Map an embedding from disk without reading it: images, which stand for their pixels, or rows of features.

    Returns
    -------
    ndarray or Stored
        Of shape (n_images, height, width, channels), uint8, or of shape (n_images, n_components), float32.

    Raises
    ------
    InputError
        If the file holds anything else, or another number of images.
    """
    embedding = load_images(path) if _open_array(path).dtype == np.uint8 else load_features(path)
    if n_images is not None and len(embedding) != n_images:
        raise InputError(f"{path}: {len(embedding)} images are embedded, there are {n_images}")
    return embedding


def load_features(path: Path) -> Rows:
    """Map features from disk without reading them.

    Returns
    -------
    ndarray or Stored of shape (n_images, n_features), float32

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    features = _open_array(path)
    if features.dtype != np.float32 or len(features.shape) != 2:
        raise InputError(f"{path}: {features.dtype} of shape {features.shape}, features are float32 of shape (n, d)")
    return features


def load_scores(path: Path, n_images: int, n_classes: int) -> NDArray[np.float32]:
    """Read a classifier's scores.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32
        Of each class for each image; the answer is the class with the highest.

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    scores = _open_array(path)
    if scores.dtype != np.float32 or scores.shape != (n_images, n_classes):
        raise InputError(
            f"{path}: {scores.dtype} of shape {scores.shape}, scores are float32 of shape ({n_images}, {n_classes})"
        )
    return np.array(scores[:])


def save_names(path: Path, names: Sequence[str]) -> None:
    """Write the name of each image, row by row, as CSV with the column ``image``."""
    with replacing(path) as temporary:
        pd.DataFrame({"image": names}, dtype=object).to_csv(temporary, index=False)


def load_names(path: Path, n_images: int) -> list[str]:
    """Read the name of each image.

    Raises
    ------
    InputError
        If the file is no list of ``n_images`` names.
    """
    names = _read_table(path, {"image": str})["image"].tolist()
    if len(names) != n_images:
        raise InputError(f"{path}: {len(names)} names, there are {n_images} images")
    return names


def save_classes(path: Path, classes: Classes) -> None:
    """Write class names and the shape of an image as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(classes), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_classes(path: Path) -> Classes:
    """Read class names and the shape of an image.

    Raises
    ------
    InputError
        If the file holds anything else.
    """
    try:
        return Classes(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a list of classes ({shorten(error)})") from error


def save_clustering(path: Path, clustering: Clustering) -> None:
    """Write a clustering as ``.npz``, an array for each attribute."""
    with replacing(path) as temporary:
        np.savez(
            temporary,
            cluster=clustering.cluster,
            distance_to_centroid=clustering.distance_to_centroid,
            representative=clustering.representative,
        )


def load_clustering(path: Path, n_images: int | None = None) -> Clustering:
    """Read a clustering.

    Raises
    ------
    InputError
        If an array is missing or their lengths do not fit each other or the images.
    """
    try:
        with np.load(path) as arrays:
            clustering = Clustering(**arrays)
    except (BadZipFile, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a clustering ({shorten(error)})") from error
    if len(clustering.cluster) != len(clustering.distance_to_centroid):
        raise InputError(
            f"{path}: {len(clustering.cluster)} clusters for {len(clustering.distance_to_centroid)} distances, "
            "each image has one of both"
        )
    if n_images is not None and len(clustering.cluster) != n_images:
        raise InputError(f"{path}: {len(clustering.cluster)} images are clustered, there are {n_images}")
    return clustering


def save_labelled(
    path: Path, labelled: LabelledImages, names: Sequence[str] | None = None, class_names: Sequence[str] | None = None
) -> None:
    """Write labelled images as CSV: ``index,label``, and ``weight`` where labels are not all alike.

    Parameters
    ----------
    path : Path
    labelled : LabelledImages
    names, class_names : sequence of str, optional
        Of all images and of all classes: what a person reads the two numbers by, in the columns ``image,class``.
    """
    table = pd.DataFrame({"index": labelled.index, "label": labelled.label})
    if labelled.weight is not None:
        table["weight"] = labelled.weight
    if names is not None and class_names is not None:
        table["image"] = [names[i] for i in labelled.index]
        table["class"] = [class_names[i] for i in labelled.label]
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def load_labelled(path: Path, n_images: int, n_classes: int) -> LabelledImages:
    """Read labelled images and check that each is one of ``n_images`` and named once.

    Raises
    ------
    InputError
        If a column is missing, an index is repeated, or an index, a label or a weight is out of range.
    """
    table = _read_table(path, {"index": np.int64, "label": np.int64}, {"weight": np.float32})
    index, label = table["index"].to_numpy(), table["label"].to_numpy()
    weight = table["weight"].to_numpy() if "weight" in table else None
    if len(index) and not (index.min() >= 0 and index.max() < n_images and (np.diff(index) > 0).all()):
        raise InputError(f"{path}: an index is repeated, unsorted or outside 0 to {n_images - 1}")
    if len(label) and not 0 <= label.min() <= label.max() < n_classes:
        raise InputError(f"{path}: labels from {label.min()} to {label.max()}, allowed are 0 to {n_classes - 1}")
    if weight is not None and not ((weight >= 0) & (weight <= 1)).all():
        raise InputError(f"{path}: a weight is missing or outside 0 to 1")
    return LabelledImages(index, label.astype(label_type(n_classes)), weight)


def load_index(path: Path, n_images: int) -> NDArray[np.int64]:
    """Read which rows of the pool a table is about, ascending."""
    index = _read_table(path, {"index": np.int64})["index"].to_numpy()
    if len(index) and not (index.min() >= 0 and index.max() < n_images):
        raise InputError(f"{path}: an index is outside 0 to {n_images - 1}")
    return index


def label_type(n_classes: int) -> np.dtype[np.unsignedinteger]:
    """Give the smallest type that holds a label."""
    return np.min_scalar_type(max(n_classes - 1, 0))


def _open_array(path: Path) -> Rows:
    """Map an array, or open a folder of its parts."""
    try:
        return Stored.open_folder(path) if path.is_dir() else np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not an array ({shorten(error)})") from error


def _read_table(path: Path, columns: dict[str, type], optional: dict[str, type] | None = None) -> pd.DataFrame:
    try:
        # A name is what it says, also one that reads like a missing value.
        table = pd.read_csv(path, dtype={**columns, **(optional or {})}, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: not a table of {','.join(columns)} ({shorten(error)})") from error
    if missing := set(columns) - set(table.columns):
        raise InputError(f"{path}: columns {quote(list(table.columns))}, {','.join(sorted(missing))} is missing")
    return table
