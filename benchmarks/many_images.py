"""As many images as wanted: the training images over and over, each shifted and with its own noise."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import load
from few_labels.blocks import cut

ROWS_AT_ONCE = 2**14
LARGEST_NOISE = 8
LARGEST_SHIFT = 2


def write_images(own: Path, n_images: int) -> None:
    """Write IDX files: the training images over and over, each shifted and with its own noise, and the test images."""
    originals, labels = load("train_images")[..., 0], load("train_labels").astype(np.uint8)
    write_idx(own / "t10k-images-idx3-ubyte", load("test_images").shape[:3], [load("test_images")])
    write_idx(own / "t10k-labels-idx1-ubyte", load("test_labels").shape, [load("test_labels").astype(np.uint8)])
    write_idx(own / "train-labels-idx1-ubyte", (n_images,), [np.resize(labels, n_images)])
    write_idx(own / "train-images-idx3-ubyte", (n_images, *originals.shape[1:]), make_blocks(originals, n_images))


def make_blocks(originals: NDArray[np.uint8], n_images: int) -> Iterator[NDArray[np.uint8]]:
    """Give images over and over, block by block, each shifted and with its own noise."""
    for seed, rows in enumerate(tqdm(cut(n_images, ROWS_AT_ONCE), desc="images", unit="block")):
        some = originals[np.arange(rows.start, rows.stop) % len(originals)]
        yield shift_and_add_noise(some, np.random.default_rng(seed))


def write_idx(path: Path, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]) -> None:
    """Write an IDX file of unsigned bytes, block by block."""
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes())
        for block in blocks:
            file.write(block.tobytes())


def shift_and_add_noise(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift each image by up to two pixels, and add up to seven to each pixel."""
    shifts = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (len(images), 2))
    shifted = np.empty_like(images)
    for shift in np.unique(shifts, axis=0):
        alike = (shifts == shift).all(axis=1)
        shifted[alike] = np.roll(images[alike], shift, axis=(1, 2))
    noise = rng.integers(0, LARGEST_NOISE, images.shape, np.uint8)
    return np.minimum(shifted, 255 - noise) + noise
