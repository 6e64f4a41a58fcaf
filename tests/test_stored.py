"""An array in a file, or in a folder of files, is read and written by rows as one in memory is."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from few_labels import stored
from few_labels.artifacts import load_embedding, load_features, load_images, replacing
from few_labels.blocks import open_rows
from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors
from few_labels.stored import Stored

IMAGES = np.random.default_rng(0).integers(0, 256, (25, 5, 5, 2), np.uint8)
ROWS = np.array([24, 0, 9, 10, 11, 0])


@pytest.fixture(params=[2**29, 500], ids=["a file", "a folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images in one file, or in three of at most ten each."""
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", request.param)
    return save(tmp_path / "images.npy", IMAGES)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", 500)
    return save(tmp_path / "images.npy", IMAGES)


def save(path: Path, array: NDArray) -> Path:
    """Write an array in blocks that lie across files."""
    with replacing(path) as temporary:
        out = Stored.create(temporary, array.shape, array.dtype)
        for start in (14, 7, 0, 21):
            rows = slice(start, min(start + 7, len(array)))
            out[rows] = array[rows]
    return path


def read(path: Path) -> Stored:
    images = load_images(path)
    return Stored.of(images) if isinstance(images, np.memmap) else images  # type: ignore[return-value]


def test_rows_are_those_of_the_array(path: Path) -> None:
    images = read(path)
    assert (len(images), images.shape, images.dtype) == (25, IMAGES.shape, np.uint8)
    for rows in (slice(None), slice(3, 7), slice(8, 23), slice(10, 20), slice(20, 90), slice(9, 9)):
        np.testing.assert_array_equal(images[rows], IMAGES[rows])
    for row in (0, 10, 24):
        np.testing.assert_array_equal(images[row], IMAGES[row])
    np.testing.assert_array_equal(images[ROWS], IMAGES[ROWS])
    np.testing.assert_array_equal(images.take(ROWS)[1:4], IMAGES[ROWS[1:4]])
    np.testing.assert_array_equal(images.vectors()[8:12], to_pixel_vectors(IMAGES[8:12]))
    np.testing.assert_array_equal(images.vectors().columns(3)[8:12], to_pixel_vectors(IMAGES[8:12])[:, :3])


def test_files_are_those_that_numpy_writes(path: Path, tmp_path: Path) -> None:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    assert [file.name for file in files] in (["images.npy"], ["00000.npy", "00001.npy", "00002.npy"])
    np.save(tmp_path / "by_numpy.npy", IMAGES[: 25 if len(files) == 1 else 10])
    assert files[0].read_bytes() == (tmp_path / "by_numpy.npy").read_bytes()
    np.testing.assert_array_equal(np.concatenate([np.load(file) for file in files]), IMAGES)


def test_stages_open_a_folder_as_a_file(folder: Path, tmp_path: Path) -> None:
    assert load_images(folder).shape == load_embedding(folder, 25).shape == IMAGES.shape
    np.testing.assert_array_equal(open_rows(load_embedding(folder))[:], to_pixel_vectors(IMAGES))
    features = save(tmp_path / "features.npy", to_pixel_vectors(IMAGES))
    assert features.is_dir()
    np.testing.assert_array_equal(load_features(features)[:], to_pixel_vectors(IMAGES))
    with pytest.raises(InputError, match=r"uint8 of shape .*, features are float32"):
        load_features(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("00001.npy", None, r"a folder of an array holds 00000\.npy, 00001\.npy and so on, and nothing else"),
        (".DS_Store", b"", r"a folder of an array holds 00000\.npy, 00001\.npy and so on, and nothing else"),
        ("00001.npy", IMAGES[:9], r"00001\.npy is uint8 of shape \(9, 5, 5, 2\), 00000\.npy uint8 of \(10, 5, 5, 2\)"),
        ("00002.npy", IMAGES[:11], r"00002\.npy is uint8 of shape \(11, 5, 5, 2\), 00000\.npy uint8 of"),
        ("00002.npy", IMAGES[:5].astype(np.int16), r"00002\.npy is int16 of shape \(5, 5, 5, 2\), 00000\.npy uint8 of"),
        ("00002.npy", b"no array", r"not an array \(.+\)"),
    ],
)
def test_a_folder_of_anything_else_is_named(
    folder: Path, name: str, content: NDArray | bytes | None, said: str
) -> None:
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(folder / name, content)
    with pytest.raises(InputError, match=said) as error:
        load_images(folder)
    assert str(error.value).startswith(f"{folder}: not an array (")


def test_rows_that_are_not_one_after_the_other_are_refused(folder: Path) -> None:
    np.save(folder / "00001.npy", np.asfortranarray(IMAGES[10:20]))
    with pytest.raises(InputError, match=r"00001\.npy is in Fortran order"):
        load_images(folder)


def test_a_folder_that_is_cut_short_is_named(folder: Path) -> None:
    images = read(folder)
    part = folder / "00001.npy"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00001\.npy: it ends before row 25"):
        images[:]


def test_folder_and_file_take_the_place_of_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, IMAGES[:22])
    assert len(load_images(folder)) == 22
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", 2**29)
    save(folder, IMAGES)
    assert folder.is_file()
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", 500)
    save(folder, IMAGES)
    assert folder.is_dir()
    np.testing.assert_array_equal(load_images(folder)[:], IMAGES)
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("most_bytes", [500, 2**29])
def test_a_folder_of_anything_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", most_bytes)
    own = tmp_path / "images.npy/photo.jpg"
    own.parent.mkdir()
    own.touch()
    with pytest.raises(OSError, match=r"images\.npy"):
        save(own.parent, IMAGES)
    assert [file.name for file in tmp_path.rglob("*")] == ["images.npy", "photo.jpg"]


def test_a_folder_that_is_not_finished_leaves_what_was_there(folder: Path) -> None:
    with pytest.raises(KeyError), replacing(folder) as temporary:  # noqa: PT012
        Stored.create(temporary, IMAGES.shape, np.uint8)
        raise KeyError
    np.testing.assert_array_equal(load_images(folder)[:], IMAGES)
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
