"""Images become numbers in 0-1, row by row, and what is a row already stays as it is."""

import numpy as np
import pytest

from few_labels.images import choose_pca_solver, to_pixel_vectors, to_rows, to_unit_range

IMAGES = np.array([0, 51, 102, 153, 204, 255] * 4, np.uint8).reshape(2, 2, 2, 3)


def test_pixels_are_scaled_to_0_to_1() -> None:
    scaled = to_unit_range(IMAGES)
    assert scaled.dtype == np.float32
    assert scaled.shape == IMAGES.shape
    np.testing.assert_array_equal(scaled.ravel(), np.array([0, 0.2, 0.4, 0.6, 0.8, 1] * 4, np.float32))


def test_an_image_is_one_row_of_its_pixels() -> None:
    for rows in (to_pixel_vectors(IMAGES), to_rows(IMAGES)):
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, to_unit_range(IMAGES).reshape(2, 12))


def test_rows_stay_as_they_are() -> None:
    rows = np.array([[-1, 0.5], [300, 2]], np.float32)
    assert to_rows(rows) is rows


@pytest.mark.parametrize(
    ("n_samples", "n_features", "solver"),
    [
        (5000, 784, "covariance_eigh"),
        (100, 1000, "covariance_eigh"),
        (100, 1001, "full"),
        (1001, 1001, "covariance_eigh"),
        (1200, 1201, "full"),
        (60_000, 12_288, "covariance_eigh"),
    ],
)
def test_many_features_of_few_images_are_decomposed_themselves(n_samples: int, n_features: int, solver: str) -> None:
    assert choose_pca_solver(n_samples, n_features) == solver
