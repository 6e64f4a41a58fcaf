"""How images become the numbers that methods work on.

An array of images is ``uint8`` of shape (n_images, height, width, channels): one channel for grey, three for RGB.
"""

import math

import numpy as np
from numpy.typing import NDArray


def to_unit_range(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels from 0-255 to 0-1.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8

    Returns
    -------
    ndarray of the same shape, float32, in 0-1
    """
    return np.divide(images, np.float32(255), dtype=np.float32)


def to_rows(embedding: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
    """Give each embedded image one row of numbers: images stand for their pixels, rows are rows already.

    Parameters
    ----------
    embedding : ndarray of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32

    Returns
    -------
    ndarray of shape (n_images, n_pixels), float32, in 0-1, or of shape (n_images, n_components), float32
    """
    return (
        np.asarray(embedding)
        if embedding.dtype == np.float32
        else to_pixel_vectors(embedding.astype(np.uint8, copy=False))
    )


def to_pixel_vectors(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flatten images to one row of pixels each, in 0-1.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8

    Returns
    -------
    ndarray of shape (n_images, height * width * channels), float32, in 0-1
    """
    # Of no images at all, too, the number of pixels is known.
    return to_unit_range(images).reshape(len(images), math.prod(images.shape[1:]))
