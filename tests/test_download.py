"""Whatever the source, the arrays are the published ones, or one error names the file and what was tried."""

import gzip
import hashlib
import os
import shutil
import signal
import socket
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from few_labels.artifacts import load_names
from few_labels.errors import InputError
from few_labels.photos import Channels
from few_labels.stored import Stored
from stages.download import (
    OWN_IDX,
    Files,
    IdxDescription,
    Part,
    balanced_head,
    check_limit,
    describe,
    fetch,
    read_fetched,
    read_idx,
    read_own_idx,
    read_source,
    save_images,
    shape_images,
)
from tests.conftest import FASHION, Clone, clone_project, read_array
from tests.datasets import digits, to_idx
from tests.permissions import as_nobody, shared_folder

NEVER_ENDS = ["pipe", "socket", "device", "link to a device"]


@pytest.fixture
def folder(idx_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(idx_folder, tmp_path / "idx"))


def test_a_folder_gives_gzipped_and_plain_files(folder: Path) -> None:
    content = fetch(FASHION, str(folder))
    images, labels = (read_idx(content[name], name) for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"))
    assert images.shape == (60_000, 28, 28)
    assert np.bincount(labels).tolist() == [6000] * len(FASHION.class_names)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Fail a test that waits for what never comes."""

    def fail(*_: object) -> None:
        raise TimeoutError("it was opened, and waited for")

    signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)


def make_endless(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # By a name in the folder: a socket's path is at most 107 bytes long.
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif kind == "device":
        try:
            os.mknod(path, 0o020666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root may make a device")
    else:
        path.symlink_to("/dev/zero")


def read_idx_below(folder: Path) -> tuple[list[str], Part, Part]:
    return read_own_idx(folder, (folder / "train_scratch.npy", folder / "test_scratch.npy"))


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("kind", NEVER_ENDS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_never_ends_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str) -> None:
    make_endless(tmp_path / f"train-images-idx3-ubyte{suffix}", kind, monkeypatch)
    said = rf"train-images-idx3-ubyte{suffix} is neither a file nor a folder, but a pipe, a socket or a device"
    with pytest.raises(InputError, match=f"Fashion-MNIST was not found; tried folder .*{said}"):
        fetch(FASHION, str(tmp_path))
    with pytest.raises(InputError, match=said):
        read_idx_below(tmp_path)
    make_endless(tmp_path / "x.yaml", kind, monkeypatch)
    with pytest.raises(InputError, match=r"x\.yaml is neither a file nor a folder"):
        describe(tmp_path / "x.yaml")
    make_endless(tmp_path / "source", kind, monkeypatch)
    with pytest.raises(InputError, match="source is neither a file nor a folder"):
        fetch(FASHION, str(tmp_path / "source"))


def test_what_may_not_be_read_is_told_from_what_is_damaged(idx_folder: Path) -> None:
    with shared_folder() as folder:
        for file in idx_folder.iterdir():
            shutil.copy(file, folder)
        file = folder / "t10k-images-idx3-ubyte.gz"
        content = file.read_bytes()
        file.chmod(0)
        (folder / "x.yaml").write_text("format: folder\ntitle: t")
        (folder / "x.yaml").chmod(0)
        with as_nobody():
            with pytest.raises(InputError, match=r"ubyte\.gz cannot be read \(Permission denied\)$"):
                fetch(FASHION, str(folder))
            with pytest.raises(InputError, match=r"x\.yaml cannot be read \(Permission denied\)$"):
                describe(folder / "x.yaml")
        file.chmod(0o644)
        file.write_bytes(content[:5000])
        with pytest.raises(InputError, match=r"ubyte\.gz is damaged or cut short"):
            fetch(FASHION, str(folder))
        folder.chmod(0)
        with as_nobody(), pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
            fetch(FASHION, str(folder))
        folder.chmod(0o755)


@pytest.mark.parametrize("length", [200, 10_000])
def test_a_long_value_does_not_fill_the_screen(tmp_path: Path, length: int) -> None:
    long = "a" * length
    (tmp_path / "x.yaml").write_text(f"format: {long}")
    (tmp_path / "y.yaml").write_text(f"format: folder\ntitle: t\n{long}: 1")
    (tmp_path / "z.yaml").write_text(f"format: [{long}")
    for attempt in (
        lambda: fetch(FASHION, long),
        lambda: describe(tmp_path / f"{long}.yaml"),
        *(lambda name=name: describe(tmp_path / f"{name}.yaml") for name in "xyz"),
    ):
        with pytest.raises(InputError) as error:
            attempt()
        assert len(str(error.value)) < 500
        assert "aaa" in str(error.value)


def test_a_download_cut_short_is_named(folder: Path) -> None:
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz is damaged or cut short"):
        fetch(FASHION, str(folder))


def test_a_wrong_hash_is_named(folder: Path) -> None:
    file = folder / "train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(
        InputError, match=rf"train-labels-idx1-ubyte has 60008 bytes .* expected is {FASHION.files.train_labels.sha256}"
    ):
        fetch(FASHION, str(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"tried folder .*: no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        fetch(FASHION, str(folder))


def test_no_source_at_all_says_what_was_tried(tmp_path: Path) -> None:
    clone = clone_project(tmp_path / "clone")
    # Without a network and without apt: proxies that nobody answers, and a PATH with Python alone.
    done = clone.call(
        *("env", "https_proxy=http://127.0.0.1:9", "PATH=/nonexistent", sys.executable),
        *("-m", "stages.download", "--descriptions", "datasets", "--own", "data/own"),
        *("--train-images", "data/a.npy", "--train-labels", "data/b.npy", "--train-names", "data/a.csv"),
        *("--test-images", "data/c.npy", "--test-labels", "data/d.npy", "--test-names", "data/b.csv"),
        *("--known-classes", "data/e.json", "--rejected", "data/c.csv"),
        check=False,
    )
    assert done.returncode == 2
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "download: Fashion-MNIST was not found; tried the dataset's site: train-images-idx3-ubyte.gz"
    )
    assert "the mirror that Keras uses: " in last
    assert last.endswith("Debian's package: this machine has no apt-get")
    assert not list((clone.path / "data").glob("*.npy"))


@pytest.mark.parametrize("limit", [1000, 1004])
def test_a_limited_run_stays_balanced(limit: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.int16), 600))
    kept = balanced_head(labels, limit)
    counts = np.bincount(labels[kept])
    assert counts.sum() == limit
    assert counts.max() - counts.min() <= 1
    assert (np.diff(kept) > 0).all()


def test_the_test_set_shrinks_in_proportion(small_run: Clone) -> None:
    sizes = [len(np.load(small_run.path / "data" / f"{part}_labels.npy")) for part in ("train", "test")]
    assert sizes == [1000, 167]


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "t10k")])
def test_an_image_and_its_label_are_those_that_its_name_says(
    small_run: Clone, idx_folder: Path, part: str, file: str
) -> None:
    data = small_run.path / "data"
    images, labels = (np.load(data / f"{part}_{kind}.npy") for kind in ("images", "labels"))
    rows = [int(name.removeprefix(f"{part}/")) for name in load_names(data / f"{part}_names.csv", len(images))]
    np.testing.assert_array_equal(images[..., 0], read_array(idx_folder, f"{file}-images-idx3-ubyte")[rows])
    np.testing.assert_array_equal(labels, read_array(idx_folder, f"{file}-labels-idx1-ubyte")[rows])


def test_the_pool_is_the_training_files_and_the_test_set_the_test_files(tmp_path: Path) -> None:
    parts = {"train": digits(slice(12)), "test": digits(slice(12, 20))}
    files: dict[str, Any] = {}
    for part, names in OWN_IDX.items():
        for kind, name, array in zip(("images", "labels"), names, parts[part], strict=True):
            content = to_idx(array)
            (tmp_path / name).write_bytes(content)
            files[f"{part}_{kind}"] = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    described = IdxDescription(
        title="Digits", format="idx", class_names=[str(digit) for digit in range(10)], files=Files(**files)
    )
    fetched = read_fetched(described, str(tmp_path))
    own = read_idx_below(tmp_path)[1:]
    for found in (fetched, own):
        for (part, (images, labels)), made in zip(parts.items(), found, strict=True):
            assert made.name == [f"{part}/{row:05}" for row in range(len(images))]
            np.testing.assert_array_equal(made.pictures, images)
            np.testing.assert_array_equal(made.label, labels)


@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize(("image_size", "channels"), [(8, Channels.AUTO), (12, Channels.RGB)])
def test_images_that_are_too_many_to_hold_stay_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_size: int, channels: Channels, is_gzipped: bool
) -> None:
    images, labels = digits(slice(40))

    def write(name: str, content: bytes) -> None:
        file = tmp_path / (f"{name}.gz" if is_gzipped else name)
        file.write_bytes(gzip.compress(content) if is_gzipped else content)

    for name, array in zip(OWN_IDX["train"], (images, labels), strict=True):
        write(name, to_idx(array))
    monkeypatch.setattr("stages.download.ROWS_AT_ONCE", 15)

    def bring() -> tuple[type, bytes]:
        _, pool, test = read_idx_below(tmp_path)
        shape = shape_images(pool.pictures, image_size, channels)
        save_images(tmp_path / "images.npy", pool.pictures, shape)
        save_images(tmp_path / "none.npy", test.pictures, shape)
        assert np.load(tmp_path / "none.npy").shape == (0, *shape)
        np.testing.assert_array_equal(pool.label, labels)
        np.testing.assert_array_equal(pool.take(np.array([3, 7])).pictures[:], images[[3, 7]])
        return type(pool.pictures), (tmp_path / "images.npy").read_bytes()

    held, content = bring()
    monkeypatch.setattr("few_labels.blocks.MOST_ROWS_WHOLE", 30)
    left, same = bring()
    assert (held, left) == (np.ndarray, Stored)
    assert (tmp_path / "train_scratch.npy").exists() == is_gzipped
    assert same == content
    saved = np.load(tmp_path / "images.npy")
    assert saved.shape == (40, image_size, image_size, 3 if channels is Channels.RGB else 1)
    if image_size == images.shape[1]:
        np.testing.assert_array_equal(saved[..., 0], images)
    np.save(tmp_path / "by_numpy.npy", saved)
    assert (tmp_path / "by_numpy.npy").read_bytes() == content

    for wrong, said in ((to_idx(images)[:-1], "2575 bytes alone"), (to_idx(images) + b"x", "2577 bytes or more")):
        write(OWN_IDX["train"][0], wrong)
        with pytest.raises(InputError, match=f"train-images-idx3-ubyte has {said}, its header says 2576"):
            read_idx_below(tmp_path)


@pytest.mark.parametrize("limit", [59, 60_001])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match=f"limit is {limit}, allowed are null and 60 to 60000"):
        check_limit(limit, 10, 60_000, 10_000)


def test_an_idx_file_is_read_as_its_header_says() -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
    assert read_idx(content, "images").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "images starts with , an IDX file of unsigned bytes with 000008"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0]), "images starts with 00000d01"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 0]), "images has 9 bytes alone, its header says 11"),
    ],
)
def test_what_is_no_idx_file_is_named(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_idx(content, "images")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "images.gz"
    compressor = zlib.compressobj(level=1, wbits=31)
    start = compressor.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3]))
    bomb.write_bytes(start + b"".join(compressor.compress(bytes(2**20)) for _ in range(1200)) + compressor.flush())
    tracemalloc.start()
    content = read_source(bomb, "images")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    with pytest.raises(InputError, match=r"images has \d+ bytes or more, its header says 11"):
        read_idx(content, "images")


def test_a_promise_that_no_file_can_keep_makes_no_room(tmp_path: Path) -> None:
    content = bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100)
    (tmp_path / "images").write_bytes(content)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content))
    for path in (tmp_path / "images", tmp_path / "images.gz"):
        with pytest.raises(InputError, match=f"images has 116 bytes alone, its header says {16 + (2**32 - 1) ** 3}"):
            read_idx(read_source(path, "images"), "images")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format: zip", "format is 'zip', allowed are idx, folder"),
        ("format: [idx]", r"format is \['idx'\], allowed are idx, folder"),
        ("format: folder\ntitle: t\n1: red", "Keys should be strings|1: Extra inputs are not permitted"),
        ("format: idx\ntitle: t\nclass_names: [a]\nfiles: {train_images: {name: a, sha256: 12}}", "sha256"),
        ("format: folder\ntitle: t\ncolour: red", "colour: Extra inputs are not permitted"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_description_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        describe(tmp_path / "x.yaml")
