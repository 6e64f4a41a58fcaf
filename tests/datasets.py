"""Folders of real images that are not Fashion-MNIST, from scikit-learn: digits, and tiles of two photos, in colour.

Each function that writes a folder gives the truth about its images: the name of the class by the name of the image, as
the pipeline names it.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

PHOTOS = ("china", "flower")
# A digit's pixels are 0 to 16.
DIGIT_SCALE = 15


def digits(part: slice = slice(None)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give some of 1,797 handwritten digits: images of shape (n_images, 8, 8) and what they are."""
    data = load_digits()
    return (data.images[part] * DIGIT_SCALE).astype(np.uint8), data.target[part].astype(np.uint8)


def tiles(side: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Cut both photos into square tiles of shape (side, side, 3) without overlap; each is of its photo's class."""
    cut, names = [], []
    for photo in PHOTOS:
        pixels = load_sample_image(f"{photo}.jpg")
        n_down, n_across = (length // side for length in pixels.shape[:2])
        squares = pixels[: n_down * side, : n_across * side].reshape(n_down, side, n_across, side, 3).swapaxes(1, 2)
        cut.append(squares.reshape(-1, side, side, 3))
        names += [photo] * len(cut[-1])
    return np.concatenate(cut), names


def write_folder(
    own: Path, part: str, images: NDArray[np.uint8], labels: Iterable[object], *, flat: bool = False
) -> dict[str, str]:
    """Write images as PNG files into ``own/part``, in a folder a class or all together."""
    truth = {}
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{part}/{row:05}.png" if flat else f"{part}/{label}/{row:05}.png"
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(own / name)
        truth[name] = str(label)
    return truth


def to_idx(array: NDArray[np.uint8]) -> bytes:
    """Write an array in IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def noise_patterns(n_classes: int, n_images: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Make up images of many classes: each class a pattern of colours, each image its pattern with some noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (n_classes, side, side, 3))
    labels = np.arange(n_images) % n_classes
    return (patterns[labels] + rng.integers(0, 56, (n_images, side, side, 3))).astype(np.uint8), labels
