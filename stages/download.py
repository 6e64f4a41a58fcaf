"""Fetch Fashion-MNIST, check every file against its published hash, and keep images and labels apart.

The four files are looked for at the dataset's own site, at the mirror that Keras uses, and in Debian's package of the
dataset; or in one folder that the user names. A file counts only when its uncompressed bytes have the right SHA-256,
so every source gives the same arrays.
"""

import gzip
import hashlib
import logging
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pooch
from numpy.typing import NDArray
from requests import RequestException
from typer import Option

from stages.artifacts import save_array
from stages.cli import InputError, run
from stages.dataset import CLASS_NAMES, IMAGE_SHAPE

# SHA-256 of the uncompressed IDX files: their .gz wrappers differ from mirror to mirror.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SITES = {
    "the dataset's site": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "the mirror that Keras uses": "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
}
CONNECT_AND_READ_SECONDS = (5, 60)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = "usr/share/datasets/fashion-mnist"


class UnavailableError(Exception):
    """Why a source could not give the files."""


def main(
    source: Annotated[str, Option(help="auto, or a folder with the four IDX files, gzipped or not")],
    limit: Annotated[str, Option(help="None, or how many training images to keep")],
    train_images: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    test_labels: Annotated[Path, Option()],
) -> None:
    n_kept = parse_limit(limit)
    files = fetch(source)
    images, labels = read_idx(files["train-images-idx3-ubyte"]), read_idx(files["train-labels-idx1-ubyte"])
    held_out_images, held_out_labels = (
        read_idx(files["t10k-images-idx3-ubyte"]),
        read_idx(files["t10k-labels-idx1-ubyte"]),
    )
    if n_kept is not None:
        n_test = round(len(held_out_labels) * n_kept / len(labels))
        kept, held_out = balanced_head(labels, n_kept), balanced_head(held_out_labels, n_test)
        images, labels = images[kept], labels[kept]
        held_out_images, held_out_labels = held_out_images[held_out], held_out_labels[held_out]
    save_array(train_images, images)
    save_array(train_labels, labels)
    save_array(test_images, held_out_images)
    save_array(test_labels, held_out_labels)
    print(f"{len(images)} training images, {len(held_out_images)} test images of shape {IMAGE_SHAPE}")


def parse_limit(limit: str) -> int | None:
    """Read ``download.limit``: None for every image, or a number that leaves each class in both sets."""
    lowest, highest = 6 * len(CLASS_NAMES), 60_000
    if limit == "None":
        return None
    if not limit.isdecimal() or not lowest <= int(limit) <= highest:
        raise InputError(f"limit is {limit}, allowed are null and {lowest} to {highest}")
    return int(limit)


def fetch(source: str) -> dict[str, bytes]:
    """Return the four files from the first source that has them all, uncompressed and verified.

    Parameters
    ----------
    source : str
        ``auto`` tries the dataset's site, the mirror that Keras uses and Debian's package, in this order; anything
        else is a folder.

    Returns
    -------
    dict of str to bytes
        IDX file name to its content.

    Raises
    ------
    InputError
        If no source has all four; the message says what each one answered.
    """
    if source != "auto":
        folder = Path(source)
        if not folder.is_dir():
            raise InputError(f"source is {source!r}, allowed are auto and a folder that holds {', '.join(SHA256)}")
        sources: dict[str, Callable[[Path], Path]] = {f"folder {source}": lambda _: folder}
    else:
        sources = {name: partial(download_from_site, url) for name, url in SITES.items()}
        sources["Debian's package"] = unpack_debian_package
    tried = []
    for name, gather in sources.items():
        print(f"looking at {name}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = gather(Path(scratch))
                return {file: read_verified(folder, file) for file in SHA256}
            except UnavailableError as error:
                tried.append(f"{name}: {error}")
    raise InputError(f"Fashion-MNIST was not found; tried {'; '.join(tried)}")


def download_from_site(url: str, scratch: Path) -> Path:
    """Download the four gzipped files to a scratch folder, with a progress bar for each."""
    pooch.get_logger().setLevel(logging.WARNING)
    download = pooch.HTTPDownloader(progressbar=True, timeout=CONNECT_AND_READ_SECONDS)
    for file in SHA256:
        try:
            download(f"{url}{file}.gz", str(scratch / f"{file}.gz"), None)
        except (RequestException, OSError) as error:
            raise UnavailableError(f"{file}.gz: {_root_cause(error)}") from error
    return scratch


def unpack_debian_package(scratch: Path) -> Path:
    """Let apt fetch the Debian package, refreshing its lists where it does not know it, and unpack it without root."""
    commands = [["apt-get", "download", DEBIAN_PACKAGE]]
    if not _succeeds(["apt-cache", "show", DEBIAN_PACKAGE], scratch):
        commands.insert(0, ["apt-get", "update"])
    for command in commands:
        _call(command, scratch)
    package = next(scratch.glob("*.deb"), None)
    if package is None:
        raise UnavailableError(f"apt-get download left no {DEBIAN_PACKAGE}*.deb")
    _call(["dpkg-deb", "-x", str(package), "."], scratch)
    return scratch / DEBIAN_FOLDER


def read_verified(folder: Path, file: str) -> bytes:
    """Return the uncompressed bytes of one file, gzipped on disk or not, once their SHA-256 is right."""
    plain, zipped = folder / file, folder / f"{file}.gz"
    try:
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(zipped.read_bytes())
    except FileNotFoundError as error:
        raise UnavailableError(f"no {file} or {file}.gz") from error
    except (EOFError, zlib.error, OSError) as error:
        raise UnavailableError(f"{file}.gz is damaged or cut short ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[file]:
        raise UnavailableError(f"{file} has {len(content)} bytes of SHA-256 {digest}, expected is {SHA256[file]}")
    return content


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """Read the IDX format: two zero bytes, a type, the number of dimensions, each big-endian size, then the values.

    Parameters
    ----------
    content : bytes
        A whole IDX file of unsigned bytes.

    Returns
    -------
    ndarray of uint8, of the shape that the header gives
    """
    n_dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=n_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dimensions).reshape(shape)


def balanced_head(labels: NDArray[np.uint8], n_kept: int) -> NDArray[np.int64]:
    """Pick the first images of each class, as equally as ``n_kept`` allows, in their original order.

    Parameters
    ----------
    labels : ndarray of shape (n_images,), uint8
    n_kept : int
        How many images to pick; classes of lower number get one more where it does not divide.

    Returns
    -------
    ndarray of shape (n_kept,), int64
        Ascending indices.
    """
    share, left_over = divmod(n_kept, len(CLASS_NAMES))
    heads = [np.flatnonzero(labels == c)[: share + (c < left_over)] for c in range(len(CLASS_NAMES))]
    return np.sort(np.concatenate(heads))


def _call(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"this machine has no {command[0]}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise UnavailableError(f"{' '.join(command)}: {complaints[0] if complaints else f'exit {done.returncode}'}")


def _succeeds(command: list[str], folder: Path) -> bool:
    try:
        _call(command, folder)
    except UnavailableError:
        return False
    return True


def _root_cause(error: BaseException) -> str:
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return str(error)


if __name__ == "__main__":
    run(main)
