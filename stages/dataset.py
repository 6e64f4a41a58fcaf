"""What every stage knows of Fashion-MNIST: its classes and how an image becomes a vector.

Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
arXiv:1708.07747.
"""

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SHAPE = (28, 28)


def to_unit_range(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels from 0-255 to 0-1.

    Parameters
    ----------
    images : ndarray of shape (n_images, 28, 28), uint8

    Returns
    -------
    ndarray of shape (n_images, 28, 28), float32, in 0-1
    """
    return np.divide(images, np.float32(255), dtype=np.float32)


def to_rows(embedding: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
    """Give each embedded image one row of numbers: images stand for their pixels, rows are rows already.

    Parameters
    ----------
    embedding : ndarray of shape (n_images, 28, 28), uint8, or of shape (n_images, n_components), float32

    Returns
    -------
    ndarray of shape (n_images, 784), float32, in 0-1, or of shape (n_images, n_components), float32
    """
    return (
        np.asarray(embedding)
        if embedding.dtype == np.float32
        else to_pixel_vectors(embedding.astype(np.uint8, copy=False))
    )


def to_pixel_vectors(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flatten images to one row of 784 pixels each, in 0-1.

    Parameters
    ----------
    images : ndarray of shape (n_images, 28, 28), uint8

    Returns
    -------
    ndarray of shape (n_images, 784), float32, in 0-1
    """
    return to_unit_range(images).reshape(len(images), -1)
