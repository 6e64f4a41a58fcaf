"""Images become numbers in 0-1, row by row, and what is a row already stays as it is."""

import numpy as np

from few_labels.images import to_pixel_vectors, to_rows, to_unit_range

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


def test_no_images_are_no_rows_of_as_many_pixels() -> None:
    assert to_rows(IMAGES[:0]).shape == (0, 12)
