"""The pictures of the pages show what they say: on a handful of images whose clusters and labels are known."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from few_labels.artifacts import Clustering, LabelledImages, replacing
from tools.illustrate import (
    draw_clusters,
    draw_mistakes,
    draw_spreading,
    grade_by_distance,
    largest_cluster,
    read_source,
)

# Two clusters of four and one of two, whose representatives are 0, 4 and 9; of the last, nothing was bought.
CLUSTERING = Clustering(
    np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2], np.int32),
    np.array([0, 3, 1, 2, 0, 1, 2, 3, 2, 1], np.float32),
    np.array([0, 4, 9]),
)
BOUGHT = LabelledImages(np.array([0, 4]), np.array([0, 1], np.uint8))
TRUTH = np.array([0, 1, 0, 0, 1, 1, 0, -1, 0, 0], np.int16)
IMAGES = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
CLASSES = ["$sandal$", "bag", "never bought"]


def test_the_largest_cluster_of_a_class_is_ordered_from_its_centroid() -> None:
    members = largest_cluster(CLUSTERING, BOUGHT, 0)
    assert members is not None
    assert members.tolist() == [0, 2, 3, 1]
    assert largest_cluster(CLUSTERING, BOUGHT, 2) is None


def test_what_is_spread_is_graded_by_distance_and_what_is_bought_or_unknown_is_not() -> None:
    # Of ranks 2, 3 and 4: images 2 and 5 are right; 3 is right and 6 wrong; 1 is wrong, and of 7 nobody knows.
    np.testing.assert_array_equal(grade_by_distance(CLUSTERING, BOUGHT, TRUTH, 4), np.array([np.nan, 1, 0.5, 0]))


def test_an_empty_cluster_spreads_nothing() -> None:
    clustering = Clustering(CLUSTERING.cluster, CLUSTERING.distance_to_centroid, np.array([0, 4, -1]))
    np.testing.assert_array_equal(
        grade_by_distance(clustering, BOUGHT, TRUTH, 4), grade_by_distance(CLUSTERING, BOUGHT, TRUTH, 4)
    )


def test_wrong_images_are_framed_and_the_line_stands_where_spreading_ends() -> None:
    figure = draw_clusters(IMAGES, CLUSTERING, BOUGHT, TRUTH, CLASSES, percentile=25)
    (axes,) = figure.axes
    # Sixteen steps over four ranks: the wrong image is the last of its cluster, or the one before an unknown one.
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    framed = {(round(box.get_x() / 6), round(box.get_y() / 6)) for box in boxes}
    assert framed == {(column, 0) for column in range(13, 16)} | {(column, 1) for column in range(8, 13)}
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())
    assert [label.get_text().splitlines()[1] for label in axes.get_yticklabels()] == [
        "4 images, 75% right",
        "4 images, 75% right",
    ]


def test_the_surest_mistakes_come_first() -> None:
    scores = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0, 1, 0]], np.float32)
    figure = draw_mistakes(IMAGES[:4], np.array([1, 1, 0, -1], np.int16), scores, CLASSES)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["bag\nnot $sandal$", "$sandal$\nnot bag", "bag\nnot $sandal$"]
    assert "3 of 4" in figure.get_suptitle()


@pytest.mark.parametrize("percentile", [0, 25, 100])
def test_the_same_picture_is_the_same_bytes_and_says_what_it_is_of(tmp_path: Path, percentile: float) -> None:
    for name in ("a", "b"):
        with replacing(tmp_path / f"{name}.png") as temporary:
            figure = draw_spreading(grade_by_distance(CLUSTERING, BOUGHT, TRUTH, 4), percentile)
            figure.savefig(temporary, metadata={"Software": None, "Source": "{}"})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert read_source(tmp_path / "a.png") == "{}"
