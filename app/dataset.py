"""What the page shows and asks: the files that the stages left, read once a round."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from few_labels.artifacts import load_classes, load_clustering, load_embedding, load_images, load_names
from few_labels.errors import InputError, quote
from few_labels.images import to_rows
from few_labels.stored import Rows
from stages import read_parameters

# Clusters whose distances to all others are in memory at once.
BLOCK = 256


@dataclass(frozen=True)
class Query:
    """An image to ask about.

    Attributes
    ----------
    image : str
        Its name.
    guess : str
        The class that the model takes it for; empty where there is none yet, and for images that are to grade it.
    sureness : float
        Of the guess, in 0-1; NaN where it is not known.
    """

    image: str
    guess: str = ""
    sureness: float = float("nan")


@dataclass(frozen=True)
class Suspect:
    """A label that the model contradicts.

    Attributes
    ----------
    image, label, suggested : str
        The image, the class it was given, and the model's.
    doubt : float
        In the label that was given, in 0-1.
    """

    image: str
    label: str
    suggested: str
    doubt: float


@dataclass(frozen=True)
class Dataset:
    """The images, how they are clustered, and what to ask about them.

    Attributes
    ----------
    names : list of str
        Of the images, by row.
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    cluster : ndarray of shape (n_images,), int32
    distance : ndarray of shape (n_images,), float32
        Of each image to the centroid of its cluster.
    embedding : ndarray or Stored of shape (n_images, ...), uint8 or float32
        In which images are near each other that look alike.
    known_classes : list of str
        Those of the data set itself.
    audit : frozenset of str
        Images that are asked about to grade the model, and never shown with others of their cluster.
    queries : list of Query
        In order of use.
    suspects : list of Suspect
        The surest first.
    unlikeness : Unlikeness
        Of clusters to those that were begun, by the embedding of the image nearest each one's centroid.
    row_of : dict of str to int
    """

    names: list[str]
    images: Rows
    cluster: NDArray[np.int32]
    distance: NDArray[np.float32]
    embedding: Rows
    known_classes: list[str]
    audit: frozenset[str]
    queries: list[Query]
    suspects: list[Suspect]
    unlikeness: "Unlikeness"
    row_of: dict[str, int] = field(default_factory=dict)


class Unlikeness:
    """How far each cluster is from the nearest of some of them; it is quick for a few more than the last time.

    Parameters
    ----------
    points : ndarray of shape (n_clusters, n_features), float32
        Where the clusters are.
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        self._points, self._norm = points, (points**2).sum(axis=1)
        self._known, self._squared = np.zeros(len(points), bool), np.full(len(points), np.inf, np.float32)

    def to_nearest(self, is_one: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Give the squared Euclidean distance of each cluster to the nearest of those that are marked.

        Parameters
        ----------
        is_one : ndarray of shape (n_clusters,), bool

        Returns
        -------
        ndarray of shape (n_clusters,), float32
            Infinite where none is marked.
        """
        if (self._known & ~is_one).any():
            self._known, self._squared = np.zeros_like(is_one), np.full(len(is_one), np.inf, np.float32)
        more = np.flatnonzero(is_one & ~self._known)
        for start in range(0, len(more), BLOCK):
            some = more[start : start + BLOCK]
            squared = self._norm[:, None] + self._norm[some] - 2 * (self._points @ self._points[some].T)
            self._squared = np.minimum(self._squared, np.maximum(squared.min(axis=1), 0))
        self._known = is_one.copy()
        return self._squared


@dataclass(frozen=True)
class Settings:
    """The few parameters of the pipeline that the page goes by."""

    dataset: str
    oracle: str
    n_queries: int


def load_settings(path: Path) -> Settings:
    """Read what the page needs of ``params.yaml``."""
    params = read_parameters([path], [])
    select = params.select_labels
    return Settings(params.download.dataset, select.oracle, select.n_queries)


def load_dataset(data: Path) -> Dataset:
    """Read what the stages wrote up to ``select-labels``, and the suspects of ``evaluate`` where it ran.

    Parameters
    ----------
    data : Path
        The folder of their files.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If a file is missing or does not fit the others.
    """
    images = load_images(data / "train_images.npy")
    names = load_names(data / "train_names.csv", len(images))
    row_of = {name: row for row, name in enumerate(names)}
    clustering = load_clustering(data / "clustering.npz", len(images))
    queries = _read(data / "queries.csv", ["image", "guess", "sureness"])
    asked = [
        Query(image, guess, float(sureness or "nan"))
        for image, guess, sureness in queries.to_numpy(dtype=object).tolist()
    ]
    if absent := [query.image for query in asked if query.image not in row_of]:
        raise InputError(f"{data / 'queries.csv'}: {len(absent)} images are not there, the first is {quote(absent[0])}")
    embedding = load_embedding(data / "train_embedding.npy", len(images))
    suspects = data / "suspects.csv"
    contradicted = _read(suspects, ["image", "label", "suggested", "doubt"]) if suspects.exists() else pd.DataFrame()
    return Dataset(
        names=names,
        images=images,
        cluster=clustering.cluster,
        distance=clustering.distance_to_centroid,
        embedding=embedding,
        known_classes=load_classes(data / "known_classes.json").class_names,
        audit=frozenset(_read(data / "audit_images.csv", ["image"])["image"]),
        # Each image once, as its last line says.
        queries=list({query.image: query for query in asked}.values()),
        suspects=[
            Suspect(image, label, suggested, float(doubt))
            for image, label, suggested, doubt in contradicted.to_numpy(dtype=object).tolist()
            if image in row_of
        ],
        unlikeness=Unlikeness(to_rows(embedding[np.maximum(clustering.representative, 0)])),
        row_of=row_of,
    )


def nearest_of_cluster(data: Dataset, row: int, n: int) -> list[int]:
    """Give the images of a cluster that are most like one of them, the nearest first, by Euclidean distance.

    Parameters
    ----------
    data : Dataset
    row : int
        Of the image, which is not among them.
    n : int
        How many at most.

    Returns
    -------
    list of int
        Rows.
    """
    members = np.flatnonzero(data.cluster == data.cluster[row])
    members = members[members != row]
    apart = data.embedding[members].astype(np.float32) - data.embedding[row].astype(np.float32)
    distance = (apart**2).sum(axis=tuple(range(1, apart.ndim)))
    return members[np.argsort(distance, kind="stable")[:n]].tolist()


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        # A name is what it says, also one that reads like a missing value.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{path}: not a table of {','.join(columns)} ({error})") from error
    if missing := set(columns) - set(table.columns):
        raise InputError(f"{path}: columns {list(table.columns)}, {','.join(sorted(missing))} is missing")
    return table[columns]
