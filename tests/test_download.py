"""Whatever the source, the arrays are the published ones, or one error names the file and what was tried."""

import gzip
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from few_labels.errors import InputError
from few_labels.images import CLASS_NAMES
from stages.download import SHA256, balanced_head, fetch, parse_limit, read_idx
from tests.conftest import Clone, clone_project


@pytest.fixture
def folder(idx_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(idx_folder, tmp_path / "idx"))


def test_a_folder_gives_gzipped_and_plain_files(folder: Path) -> None:
    files = fetch(str(folder))
    images, labels = read_idx(files["train-images-idx3-ubyte"]), read_idx(files["train-labels-idx1-ubyte"])
    assert images.shape == (60_000, 28, 28)
    assert np.bincount(labels).tolist() == [6000] * len(CLASS_NAMES)


def test_a_download_cut_short_is_named(folder: Path) -> None:
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz is damaged or cut short"):
        fetch(str(folder))


def test_a_wrong_hash_is_named(folder: Path) -> None:
    file = folder / "train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(
        InputError, match=rf"train-labels-idx1-ubyte has 60008 bytes .* expected is {SHA256[file.name]}"
    ):
        fetch(str(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"tried folder .*: no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        fetch(str(folder))


def test_no_source_at_all_says_what_was_tried(tmp_path: Path) -> None:
    clone = clone_project(tmp_path / "clone")
    # Without a network and without apt: proxies that nobody answers, and a PATH with Python alone.
    done = clone.call(
        *("env", "https_proxy=http://127.0.0.1:9", "PATH=/nonexistent", sys.executable),
        *("-m", "stages.download", "--source", "auto", "--limit", "None"),
        *("--train-images", "data/a.npy", "--train-labels", "data/b.npy"),
        *("--test-images", "data/c.npy", "--test-labels", "data/d.npy"),
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
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.uint8), 600))
    kept = balanced_head(labels, limit)
    counts = np.bincount(labels[kept])
    assert counts.sum() == limit
    assert counts.max() - counts.min() <= 1
    assert (np.diff(kept) > 0).all()


def test_the_test_set_shrinks_in_proportion(small_run: Clone) -> None:
    sizes = [len(np.load(small_run.path / "data" / f"{part}_labels.npy")) for part in ("train", "test")]
    assert sizes == [1000, 167]


@pytest.mark.parametrize("limit", ["59", "60001", "-1", "1e3", "null"])
def test_a_limit_out_of_range_is_refused(limit: str) -> None:
    with pytest.raises(InputError, match=f"limit is {limit}, allowed are null and 60 to 60000"):
        parse_limit(limit)


def test_an_idx_file_is_read_as_its_header_says() -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
    assert read_idx(gzip.decompress(gzip.compress(content))).tolist() == [[0, 1, 2], [3, 4, 5]]
