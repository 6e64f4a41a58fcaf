"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used.

``pixels`` keeps the images as they are. ``patches`` describes an image by which visual words its parts resemble: the
words are the centroids of k-means over whitened patches, every patch of an image answers to the words nearer than
average, and the answers are summed over a grid of regions (Coates, Lee and Ng 2011, "An analysis of single-layer
networks in unsupervised feature learning"). Their square roots (Perronnin, Sánchez and Mensink 2010, "Improving the
Fisher kernel for large-scale image classification") are rotated to their principal components.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from tqdm import tqdm
from typer import Option

from stages.artifacts import load_images, save_array
from stages.cli import run
from stages.dataset import to_pixel_vectors, to_unit_range

N_SAMPLED_PATCHES = 200_000
N_SAMPLED_IMAGES = 20_000
# Added to the variance of a patch, and to that of a whitened direction: a flat patch, or a direction that holds only
# noise, would otherwise be blown up.
PATCH_VARIANCE_FLOOR = 0.01
DIRECTION_VARIANCE_FLOOR = 0.1
IMAGES_AT_ONCE = 64


class Method(StrEnum):
    """What stands for an image."""

    PIXELS = "pixels"
    PATCHES = "patches"


@dataclass(frozen=True)
class VisualWords:
    """A dictionary of patches.

    Attributes
    ----------
    mean : ndarray of shape (patch_size ** 2,), float32
        Of the normalised patches.
    whitening : ndarray of shape (patch_size ** 2, patch_size ** 2), float32
    words : ndarray of shape (n_words, patch_size ** 2), float32
        Centroids of whitened patches.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    words: NDArray[np.float32]


def main(
    train_images: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    method: Annotated[Method, Option()],
    n_words: Annotated[int, Option(min=2, help="of the dictionary of patches")],
    patch_size: Annotated[int, Option(min=2, max=28, help="in pixels")],
    n_regions: Annotated[int, Option(min=1, max=8, help="along each side of the grid that words are summed over")],
    n_components: Annotated[int, Option(min=1, help="principal components kept")],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    train_embedding: Annotated[Path, Option()],
    test_embedding: Annotated[Path, Option()],
) -> None:
    train, test = load_images(train_images), load_images(test_images)
    if method is Method.PIXELS:
        save_array(train_embedding, train)
        save_array(test_embedding, test)
        return
    words = learn_words(train, n_words, patch_size, seed)
    described = describe(train, words, n_regions)
    sample = np.random.default_rng(seed).permutation(len(train))[:N_SAMPLED_IMAGES]
    components = PCA(min(n_components, len(sample), described.shape[1]), svd_solver="covariance_eigh")
    components.fit(described[sample])
    # Spread as widely as the pixels, so that settings which count in their units keep their meaning.
    pixels = to_pixel_vectors(train[np.sort(sample)])
    scale = np.sqrt(pixels.var(axis=0).sum() / components.explained_variance_.sum())
    save_array(train_embedding, scale * components.transform(described))
    save_array(test_embedding, scale * components.transform(describe(test, words, n_regions)))
    print(f"{len(train)} images by {len(words.words)} visual words, {components.n_components_} components")


def learn_words(images: NDArray[np.uint8], n_words: int, patch_size: int, seed: int) -> VisualWords:
    """Cluster patches from random places of random images.

    Parameters
    ----------
    images : ndarray of shape (n_images, 28, 28), uint8
    n_words : int
        At least 2.
    patch_size : int
        Side of a patch in pixels, 2-28.
    seed : int

    Returns
    -------
    VisualWords
    """
    rng = np.random.default_rng(seed)
    height, width = images.shape[1:]
    windows = np.lib.stride_tricks.sliding_window_view(images, (patch_size, patch_size), axis=(1, 2))
    drawn = windows[
        rng.integers(len(images), size=N_SAMPLED_PATCHES),
        rng.integers(height - patch_size + 1, size=N_SAMPLED_PATCHES),
        rng.integers(width - patch_size + 1, size=N_SAMPLED_PATCHES),
    ]
    patches = normalise(drawn)
    mean = patches.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
    whitening = ((directions / np.sqrt(variances + DIRECTION_VARIANCE_FLOOR)) @ directions.T).astype(np.float32)
    kmeans = faiss.Kmeans(
        patch_size**2, n_words, niter=25, seed=seed, max_points_per_centroid=len(patches), min_points_per_centroid=1
    )
    kmeans.train((patches - mean) @ whitening)
    return VisualWords(mean, whitening, np.asarray(kmeans.centroids, np.float32))


def normalise(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Take brightness and contrast out of patches of shape (..., side, side); give rows of shape (..., side ** 2)."""
    rows = to_unit_range(patches).reshape(*patches.shape[:-2], -1)
    rows -= rows.mean(axis=-1, keepdims=True)
    rows /= np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + np.float32(PATCH_VARIANCE_FLOOR))
    return rows


def describe(images: NDArray[np.uint8], words: VisualWords, n_regions: int) -> NDArray[np.float32]:
    """Describe each image by how much the patches of each region resemble each word.

    Parameters
    ----------
    images : ndarray of shape (n_images, 28, 28), uint8
    words : VisualWords
    n_regions : int
        Along each side.

    Returns
    -------
    ndarray of shape (n_images, n_regions ** 2 * n_words), float32
        The square root of the mean activation of a word over the patches of a region.
    """
    patch_size = int(words.mean.size**0.5)
    n_places = images.shape[1] - patch_size + 1
    edges = np.linspace(0, n_places, n_regions + 1).round().astype(int)
    n_words = len(words.words)
    described = np.empty((len(images), n_regions, n_regions, n_words), np.float32)
    squared_norm = np.square(words.words).sum(axis=1)

    def describe_some(start: int) -> None:
        some = images[start : start + IMAGES_AT_ONCE]
        windows = np.lib.stride_tricks.sliding_window_view(some, (patch_size, patch_size), axis=(1, 2))
        whitened = (normalise(windows) - words.mean).reshape(-1, patch_size**2) @ words.whitening
        distance = whitened @ (-2 * words.words.T)
        distance += squared_norm
        distance += np.square(whitened).sum(axis=1)[:, None]
        np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        activation = np.subtract(distance.mean(axis=1, keepdims=True), distance, out=distance)
        activation = np.maximum(activation, 0, out=activation).reshape(len(some), n_places, n_places, n_words)
        by_region = np.add.reduceat(np.add.reduceat(activation, edges[:-1], axis=1), edges[:-1], axis=2)
        np.sqrt(by_region * np.float32((n_regions / n_places) ** 2), out=described[start : start + len(some)])

    starts = range(0, len(images), IMAGES_AT_ONCE)
    # A chunk of images a thread: inside one, a second thread would find too little to do.
    with threadpool_limits(1), ThreadPoolExecutor() as threads:
        list(tqdm(threads.map(describe_some, starts), total=len(starts), desc="visual words", unit="chunk"))
    return described.reshape(len(images), -1)


if __name__ == "__main__":
    run(main)
