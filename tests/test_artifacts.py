"""What one stage writes the next one reads as it was, and a file that holds something else is named in one line."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from few_labels.artifacts import (
    Classes,
    Clustering,
    LabelledImages,
    label_type,
    load_classes,
    load_clustering,
    load_embedding,
    load_features,
    load_images,
    load_index,
    load_labelled,
    load_labels,
    load_names,
    load_scores,
    replacing,
    save_array,
    save_classes,
    save_clustering,
    save_labelled,
    save_names,
)
from few_labels.errors import InputError

OF_IMAGES = "images are uint8 of shape (n, height, width, channels)"
IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
LABELS = np.array([1, -1], np.int16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "file.npy"


def refusal(load: Any, path: Path, *arguments: Any) -> str:
    """Give what is said about a file that cannot be used, after its name."""
    with pytest.raises(InputError) as error:
        load(path, *arguments)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


def test_a_file_stands_whole_or_as_it_was(path: Path) -> None:
    with replacing(path) as temporary:
        assert temporary == path.with_name(".file.partial.npy")
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    # What a killed process left is no obstacle.
    temporary.write_text("left over")
    with contextlib.suppress(ZeroDivisionError), replacing(path) as temporary:
        assert not temporary.exists()
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["file.npy"]


@pytest.mark.parametrize(
    ("load", "array", "arguments"),
    [
        (load_images, IMAGES, ()),
        (load_labels, LABELS, (2,)),
        (load_features, FEATURES, ()),
        (load_embedding, IMAGES, ()),
        (load_embedding, IMAGES, (2,)),
        (load_embedding, FEATURES, (2,)),
    ],
)
def test_an_array_is_mapped_and_not_read(path: Path, load: Any, array: NDArray, arguments: tuple[int, ...]) -> None:
    save_array(path, array)
    loaded = load(path, *arguments)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == array.dtype
    assert isinstance(loaded, np.memmap)
    assert not loaded.flags.writeable


def test_scores_are_read_to_be_changed(path: Path) -> None:
    save_array(path, FEATURES)
    scores = load_scores(path, 2, 3)
    np.testing.assert_array_equal(scores, FEATURES)
    scores[0] = 0
    np.testing.assert_array_equal(load_scores(path, 2, 3), FEATURES)


@pytest.mark.parametrize(
    ("load", "array", "arguments", "said"),
    [
        (load_images, IMAGES[..., 0], (), f"uint8 of shape (2, 3, 4), {OF_IMAGES}"),
        (load_images, IMAGES.astype(np.int16), (), f"int16 of shape (2, 3, 4, 1), {OF_IMAGES}"),
        (load_labels, LABELS, (3,), "int16 of shape (2,), labels are int16 of shape (3,)"),
        (load_labels, LABELS.astype(np.int64), (2,), "int64 of shape (2,), labels are int16 of shape (2,)"),
        (load_features, FEATURES[0], (), "float32 of shape (3,), features are float32 of shape (n, d)"),
        (load_features, FEATURES.astype(float), (), "float64 of shape (2, 3), features are float32 of shape (n, d)"),
        (load_embedding, IMAGES, (3,), "2 images are embedded, there are 3"),
        (load_embedding, FEATURES, (1,), "2 images are embedded, there are 1"),
        (load_embedding, LABELS, (2,), "int16 of shape (2,), features are float32 of shape (n, d)"),
        (load_scores, FEATURES, (2, 4), "float32 of shape (2, 3), scores are float32 of shape (2, 4)"),
        (load_scores, FEATURES, (1, 3), "float32 of shape (2, 3), scores are float32 of shape (1, 3)"),
        (load_scores, FEATURES.astype(float), (2, 3), "float64 of shape (2, 3), scores are float32 of shape (2, 3)"),
    ],
)
def test_another_array_is_named(path: Path, load: Any, array: NDArray, arguments: tuple[int, ...], said: str) -> None:
    save_array(path, array)
    assert refusal(load, path, *arguments) == said


@pytest.mark.parametrize("content", [b"", b"no array at all"])
def test_what_is_no_array_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert re.fullmatch(r"not an array \(.+\)", refusal(load_features, path))


def test_a_name_is_what_it_says(path: Path) -> None:
    names = ["NA", "null", "1", "01.50", "été, 猫.png", 'a "b"', " blanks ", "two\nlines"]
    save_names(path, names)
    assert path.read_text(encoding="utf-8").startswith("image\nNA\nnull\n1\n")
    assert load_names(path, len(names)) == names
    assert refusal(load_names, path, 9) == "8 names, there are 9 images"
    save_names(path, [])
    assert load_names(path, 0) == []


def test_classes_are_read_as_they_were_written(path: Path) -> None:
    classes = Classes(["T-shirt", "été"], [28, 28, 1], 0)
    save_classes(path, classes)
    assert path.read_text(encoding="utf-8") == (
        '{\n  "class_names": [\n    "T-shirt",\n    "été"\n  ],\n'
        '  "image_shape": [\n    28,\n    28,\n    1\n  ],\n  "n_labelled_test_images": 0\n}\n'
    )
    assert load_classes(path) == classes


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"class_names": []}', '{"class_names": [], "image_shape": [], "n": 0}', "3"]
)
def test_what_are_no_classes_is_named(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert re.fullmatch(r"not a list of classes \(.+\)", refusal(load_classes, path))


def test_a_clustering_is_read_as_it_was_written(tmp_path: Path) -> None:
    clustering = Clustering(
        np.array([0, 1, 0], np.int32), np.array([0.5, 1, 2], np.float32), np.array([0, 1, -1], np.int64)
    )
    save_clustering(tmp_path / "a.npz", clustering)
    for loaded in (load_clustering(tmp_path / "a.npz"), load_clustering(tmp_path / "a.npz", 3)):
        for name, array in vars(clustering).items():
            np.testing.assert_array_equal(getattr(loaded, name), array)
            assert getattr(loaded, name).dtype == array.dtype
    assert refusal(load_clustering, tmp_path / "a.npz", 4) == "3 images are clustered, there are 4"


def test_what_is_no_clustering_is_named(tmp_path: Path) -> None:
    two, three = np.zeros(2), np.zeros(3)
    np.savez(tmp_path / "a.npz", cluster=two, distance_to_centroid=three, representative=two)
    said = "2 clusters for 3 distances, each image has one of both"
    assert refusal(load_clustering, tmp_path / "a.npz") == said
    np.savez(tmp_path / "b.npz", cluster=two, distance_to_centroid=two)
    (tmp_path / "c.npz").write_text("no clustering at all")
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 cut short")
    for name in "bcd":
        assert re.fullmatch(r"not a clustering \(.+\)", refusal(load_clustering, tmp_path / f"{name}.npz"))


def test_labelled_images_are_a_table(path: Path) -> None:
    index, label = np.array([0, 2]), np.array([1, 0], np.uint8)
    for weight, names, class_names, text in [
        (None, None, None, "index,label\n0,1\n2,0\n"),
        (np.array([1, 0.5], np.float32), None, None, "index,label,weight\n0,1,1.0\n2,0,0.5\n"),
        (None, ["a", "b", "c"], ["cat", "dog"], "index,label,image,class\n0,1,a,dog\n2,0,c,cat\n"),
        (None, ["a", "b", "c"], None, "index,label\n0,1\n2,0\n"),
        (None, None, ["cat", "dog"], "index,label\n0,1\n2,0\n"),
    ]:
        save_labelled(path, LabelledImages(index, label, weight), names, class_names)
        assert path.read_text() == text
        loaded = load_labelled(path, n_images=3, n_classes=2)
        assert (loaded.index.tolist(), loaded.index.dtype) == ([0, 2], np.int64)
        assert (loaded.label.tolist(), loaded.label.dtype) == ([1, 0], np.uint8)
        if weight is None:
            assert loaded.weight is None
        else:
            assert loaded.weight is not None
            assert (loaded.weight.tolist(), loaded.weight.dtype) == ([1, 0.5], np.float32)


def test_a_table_may_be_empty(path: Path) -> None:
    save_labelled(path, LabelledImages(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.float32)))
    loaded = load_labelled(path, n_images=3, n_classes=300)
    assert (len(loaded.index), len(loaded.label), loaded.label.dtype) == (0, 0, np.uint16)
    assert load_index(path, 3).tolist() == []


def test_a_weight_may_be_anything_from_0_to_1(path: Path) -> None:
    weight = np.array([0, 0.5, 1], np.float32)
    save_labelled(path, LabelledImages(np.arange(3), np.zeros(3, np.uint8), weight))
    np.testing.assert_array_equal(load_labelled(path, 3, 1).weight, weight)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index,label\n1,0\n1,0\n", r"an index is repeated, unsorted or outside 0 to 2"),
        ("index,label\n2,0\n1,0\n", r"an index is repeated, unsorted or outside 0 to 2"),
        ("index,label\n-1,0\n1,0\n", r"an index is repeated, unsorted or outside 0 to 2"),
        ("index,label\n1,0\n3,0\n", r"an index is repeated, unsorted or outside 0 to 2"),
        ("index,label\n0,0\n1,2\n", r"labels from 0 to 2, allowed are 0 to 1"),
        ("index,label\n0,-1\n1,1\n", r"labels from -1 to 1, allowed are 0 to 1"),
        ("index,label,weight\n0,0,-0.1\n", r"a weight is missing or outside 0 to 1"),
        ("index,label,weight\n0,0,1.1\n", r"a weight is missing or outside 0 to 1"),
        ("index,label,weight\n0,0,nan\n", r"not a table of index,label \(.+\)"),
        ("index,label,weight\n0,0,\n", r"not a table of index,label \(.+\)"),
        ("index,label\n0,a\n", r"not a table of index,label \(.+\)"),
        ("index,label\n0.5,0\n", r"not a table of index,label \(.+\)"),
        ("", r"not a table of index,label \(.+\)"),
        ("index,weight\n0,1\n", r"columns \['index', 'weight'\], label is missing"),
        ("image\na\n", r"columns \['image'\], index,label is missing"),
    ],
)
def test_another_table_is_named(path: Path, text: str, said: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert re.fullmatch(said, refusal(load_labelled, path, 3, 2))


def test_an_index_is_checked(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("image,index\na,0\nb,2\n")
    index = load_index(path, 3)
    assert (index.tolist(), index.dtype) == ([0, 2], np.int64)
    assert refusal(load_index, path, 2) == "an index is outside 0 to 1"
    path.write_text("index\n-1\n")
    assert refusal(load_index, path, 2) == "an index is outside 0 to 1"


@pytest.mark.parametrize(
    ("n_classes", "type_"), [(0, np.uint8), (1, np.uint8), (256, np.uint8), (257, np.uint16), (65_537, np.uint32)]
)
def test_a_label_takes_the_least_room(n_classes: int, type_: type) -> None:
    assert label_type(n_classes) == type_
