"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used.

``pixels`` keeps the images as they are. ``patches`` describes an image by which visual words its parts resemble: the
words are the centroids of k-means over whitened patches, every patch of an image answers to the words nearer than
average, and the answers are summed over a grid of regions (Coates, Lee and Ng 2011, "An analysis of single-layer
networks in unsupervised feature learning"). Their square roots (Perronnin, Sánchez and Mensink 2010, "Improving the
Fisher kernel for large-scale image classification") stand beside histograms of oriented gradients (Dalal and Triggs
2005, "Histograms of oriented gradients for human detection"), which see finer outlines and tell them less apart, and
both together are rotated to their principal components.

What is fitted on one set of images is an object with ``transform``, which embeds any others of the same shape.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from few_labels.blocks import cut, run_blocks
from few_labels.components import Components, fit_components
from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors, to_unit_range
from few_labels.kmeans import iterate
from few_labels.stored import Rows, Stored

N_SAMPLED_PATCHES = 200_000
N_SAMPLED_IMAGES = 20_000
N_WEIGHED_IMAGES = 1000
# Added to the variance of a patch, and to that of a whitened direction: a flat patch, or a direction that holds only
# noise, would otherwise be blown up.
PATCH_VARIANCE_FLOOR = 0.01
DIRECTION_VARIANCE_FLOOR = 0.1
N_WORD_ITERATIONS = 25
# Of the grid that gradients are summed over, along each side, and the directions that a gradient may have.
N_CELLS = 7
N_DIRECTIONS = 12
# So few that what their patches answer stays in a core's cache.
IMAGES_AT_ONCE = 4
IMAGES_HELD = 8192
PATCHES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Pixels:
    """Images as they are."""

    def transform(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give the images themselves, which stand for their pixels."""
        return images


@dataclass(frozen=True)
class VisualWords:
    """A dictionary of patches.

    Attributes
    ----------
    patch_size : int
        Side of a patch in pixels. A patch has ``n_values``, patch_size squared times the channels.
    mean : ndarray of shape (n_values,), float32
        Of the normalised patches.
    whitening : ndarray of shape (n_values, n_values), float32
    words : ndarray of shape (n_words, n_values), float32
        Centroids of whitened patches.
    """

    patch_size: int
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    words: NDArray[np.float32]


@dataclass(frozen=True)
class Patches:
    """Principal components of how images answer to visual words, and of their gradients.

    Attributes
    ----------
    words : VisualWords
    n_regions : int
        Along each side of the grid that words are summed over.
    gradient_scale : float
        What gives gradients their weight beside the words, or 0.
    components : Components
        Of the descriptions of the images that this was fitted on.
    scale : float
        What spreads the embedding as widely as the pixels, so that settings which count in their units keep their
        meaning.
    """

    words: VisualWords
    n_regions: int
    gradient_scale: np.floating
    components: Components
    scale: np.floating

    def transform(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images.

        Parameters
        ----------
        images : ndarray of shape (n_images, height, width, channels), uint8

        Returns
        -------
        ndarray of shape (n_images, n_components), float32
        """
        embedded = np.empty((len(images), len(self.components.directions)), np.float32)
        for rows in cut(len(images), IMAGES_HELD):
            described = describe(images[rows], self.words, self.n_regions, self.gradient_scale)
            embedded[rows] = self.scale * self.components.transform(described)
        return embedded


def fit_patches(
    images: Rows,
    *,
    n_words: int,
    patch_size: int,
    n_regions: int,
    gradient_weight: float,
    n_components: int,
    seed: int,
) -> tuple[Patches, NDArray[np.float32] | None]:
    """Learn visual words and the principal components of what images answer to them, from samples of the images.

    Parameters
    ----------
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    n_words : int
        At least 2.
    patch_size : int
        Side of a patch in pixels.
    n_regions : int
        Along each side of the grid that words are summed over.
    gradient_weight : float
        How widely gradients spread, as a share of how widely the answers to words do; with 0 there are none.
    n_components : int
        At most so many principal components are kept.
    seed : int

    Returns
    -------
    embedder : Patches
    embedding : ndarray of shape (n_images, n_components), float32, or None
        Of images in memory, all of which were described to fit it; those in a file are for ``transform``.

    Raises
    ------
    InputError
        If a patch does not fit into an image as often as there are regions.
    """
    n_places = min(images.shape[1:3]) - patch_size + 1
    if n_places < n_regions:
        raise InputError(
            f"patch_size is {patch_size} and n_regions {n_regions}: an image of {images.shape[1]} x {images.shape[2]} "
            f"has {max(n_places, 0)} places for a patch along a side, allowed are as many regions at most"
        )
    words = learn_words(images, n_words, patch_size, seed)
    sample = np.random.default_rng(seed).permutation(len(images))[:N_SAMPLED_IMAGES]
    gradient_scale = np.float32(0)
    if gradient_weight:
        seen = describe(images[sample[:N_WEIGHED_IMAGES]], words, n_regions, np.float32(1)).var(axis=0)
        of_words, of_gradients = (part.sum() for part in np.split(seen, [n_regions**2 * n_words]))
        if of_gradients:
            gradient_scale = np.float32(gradient_weight * np.sqrt(of_words / of_gradients))
    if isinstance(images, Stored):
        described = None
        samples = describe(images[sample], words, n_regions, gradient_scale)
    else:
        described = describe(images, words, n_regions, gradient_scale)
        samples = described[sample]
    components = fit_components(samples, min(n_components, *samples.shape))
    pixels = to_pixel_vectors(images[np.sort(sample)])
    spread = max(components.variance.sum(), np.finfo(np.float32).tiny)
    scale = np.float32(np.sqrt(pixels.var(axis=0).sum() / spread))
    embedder = Patches(words, n_regions, gradient_scale, components, scale)
    return embedder, None if described is None else scale * components.transform(described)


def learn_words(images: Rows, n_words: int, patch_size: int, seed: int) -> VisualWords:
    """Cluster patches from random places of random images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
    n_words : int
        At least 2.
    patch_size : int
        Side of a patch in pixels, at most that of an image.
    seed : int

    Returns
    -------
    VisualWords
    """
    rng = np.random.default_rng(seed)
    height, width = images.shape[1:3]
    row = rng.integers(len(images), size=N_SAMPLED_PATCHES)
    top = rng.integers(height - patch_size + 1, size=N_SAMPLED_PATCHES)
    left = rng.integers(width - patch_size + 1, size=N_SAMPLED_PATCHES)
    drawn = np.empty((N_SAMPLED_PATCHES, *images.shape[3:], patch_size, patch_size), np.uint8)
    # Image by image in the order of the rows, some at a time: all that are drawn from may be more than memory holds.
    order = np.argsort(row, kind="stable")
    for some in (order[rows] for rows in cut(len(order), PATCHES_AT_ONCE)):
        shown, position = np.unique(row[some], return_inverse=True)
        windows = np.lib.stride_tricks.sliding_window_view(images[shown], (patch_size, patch_size), axis=(1, 2))
        drawn[some] = windows[position, top[some], left[some]]
    patches = normalise(to_unit_range(drawn))
    mean = patches.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
    whitening = ((directions / np.sqrt(variances + DIRECTION_VARIANCE_FLOOR)) @ directions.T).astype(np.float32)
    whitened = (patches - mean) @ whitening
    start = whitened[rng.choice(len(whitened), n_words, replace=False)]
    return VisualWords(patch_size, mean, whitening, iterate(whitened, start, N_WORD_ITERATIONS))


def normalise(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take brightness and contrast out of patches of shape (..., channels, side, side); give rows (..., n_values)."""
    rows = patches.reshape(*patches.shape[:-3], -1)
    rows = rows - rows.mean(axis=-1, keepdims=True)
    rows /= np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + np.float32(PATCH_VARIANCE_FLOOR))
    return rows


def describe(
    images: NDArray[np.uint8], words: VisualWords, n_regions: int, gradient_scale: np.floating
) -> NDArray[np.float32]:
    """Describe each image by how much the patches of each region resemble each word, and by its gradients.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
    words : VisualWords
    n_regions : int
        Along each side.
    gradient_scale : float
        What gradients are multiplied by; with 0 there are none.

    Returns
    -------
    ndarray of shape (n_images, n_regions ** 2 * n_words + n_gradients), float32
        The square root of the mean activation of a word over the patches of a region; then what `sum_gradients` gives.
    """
    patch_size, (n_words, n_values) = words.patch_size, words.words.shape
    n_places = [side - patch_size + 1 for side in images.shape[1:3]]
    cuts = [np.linspace(0, n, n_regions + 1).round().astype(int) for n in n_places]
    regions = [(slice(*down), slice(*across)) for down in pairwise(cuts[0]) for across in pairwise(cuts[1])]
    # One product gives squared distances whole, |patch|^2 - 2 patch word + |word|^2: memory is what this waits for.
    factors = np.vstack([-2 * words.words.T, np.ones(n_words, np.float32), np.square(words.words).sum(axis=1)])
    # A product and a maximum by element, which are each twice as fast as NumPy's mean and its maximum with a number.
    mean, zero = np.full((n_words, 1), 1 / n_words, np.float32), np.zeros(n_words, np.float32)
    share = np.float32(n_regions**2 / math.prod(n_places))
    n_answers = n_regions**2 * n_words
    n_gradients = count_cells(images.shape[1:3]) ** 2 * N_DIRECTIONS if gradient_scale else 0
    described = np.empty((len(images), n_answers + n_gradients), np.float32)

    def describe_some(rows: slice) -> None:
        pixels = to_unit_range(images[rows])
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (patch_size, patch_size), axis=(1, 2))
        patches = np.ones((windows.size // n_values, n_values + 2), np.float32)
        patches[:, :-2] = (normalise(windows) - words.mean).reshape(-1, n_values) @ words.whitening
        patches[:, -2] = np.square(patches[:, :-2]).sum(axis=1)
        distance = patches @ factors
        # Below 0 by rounding alone.
        np.sqrt(np.abs(distance, out=distance), out=distance)
        activation = np.subtract(distance @ mean, distance, out=distance)
        np.maximum(activation, zero, out=activation)
        by_place = activation.reshape(len(pixels), *n_places, n_words)
        answers = np.stack([by_place[:, *region].sum(axis=(1, 2)) for region in regions], axis=1)
        described[rows, :n_answers] = np.sqrt(answers * share).reshape(len(pixels), -1)
        if gradient_scale:
            described[rows, n_answers:] = gradient_scale * sum_gradients(pixels)

    run_blocks(describe_some, len(images), IMAGES_AT_ONCE, title="visual words")
    return described


def count_cells(sides: tuple[int, ...]) -> int:
    """Give how many cells an image has for its gradients along each side: no more than pixels."""
    return min(N_CELLS, *sides)


def sum_gradients(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum the gradients in each cell of an image by their direction.

    Parameters
    ----------
    pixels : ndarray of shape (n_images, height, width, channels), float32, in 0-1

    Returns
    -------
    ndarray of shape (n_images, n_cells ** 2 * N_DIRECTIONS), float32
        The square roots of sums over pixels and channels. A gradient counts by its size, the less the further it is
        from a direction and its pixel from the middle of a cell: not at all in the next direction or cell.
    """
    n_cells = count_cells(pixels.shape[1:3])
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    down, across = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    size = np.sqrt(np.square(down) + np.square(across))
    # By products with each direction: the arc tangent of a gradient has other last digits in every libm.
    angles = 2 * np.pi * np.arange(N_DIRECTIONS) / N_DIRECTIONS
    along = across[..., None] * np.float32(np.cos(angles)) + down[..., None] * np.float32(np.sin(angles))
    along -= size[..., None] * np.float32(np.cos(2 * np.pi / N_DIRECTIONS))
    votes = np.maximum(along, np.zeros(N_DIRECTIONS, np.float32), out=along).sum(axis=3)
    for axis, side in enumerate(pixels.shape[1:3], start=1):
        places = (np.arange(side) + 0.5) * n_cells / side - 0.5
        share = np.maximum(0, 1 - np.abs(np.arange(n_cells)[:, None] - places)).astype(np.float32)
        votes = np.moveaxis(np.tensordot(share, votes, axes=(1, axis)), 0, axis)
    return np.sqrt(votes).reshape(len(pixels), -1)
