"""What logistic regression learns from: embedded images as they are, or their distances to the centroids of k-means."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from few_labels.images import to_rows

if TYPE_CHECKING:  # it takes longer to load than pixels take to become features
    from sklearn.cluster import KMeans

ROWS_AT_ONCE = 4096


def to_features(embedding: NDArray[np.uint8 | np.float32], kmeans: "KMeans | None") -> NDArray[np.float32]:
    """Represent each image by one row of numbers.

    Parameters
    ----------
    embedding : ndarray of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32
        Images stand for their pixels.
    kmeans : KMeans or None
        Fitted on such an embedding: its centroids are measured to. None keeps the embedding.

    Returns
    -------
    ndarray of shape (n_images, n_pixels), (n_images, n_components) or (n_images, n_clusters), float32
        Pixels in 0-1, the embedding, or Euclidean distances in its units.
    """
    rows = to_rows(embedding)
    return kmeans.transform(rows) if kmeans else rows
