"""Bring in a data set: the pool and the test images, what is known of their labels, and a name for each image.

What a data set is stands in a file under ``datasets/``. Files in IDX format are looked for at the sites that it names
and in a Debian package, or in one folder that the user names; a file counts only when its uncompressed bytes have the
right SHA-256, so every source gives the same arrays. A folder of one's own holds image files of any kind, or IDX files.
"""

import gzip
import hashlib
import logging
import math
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pooch
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from requests import RequestException
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import UNKNOWN, Classes, replacing, save_array, save_classes, save_names, scratch_beside
from few_labels.blocks import cut, fits, take
from few_labels.errors import InputError, Kind, look_at, quote, shorten
from few_labels.parameters import Download
from few_labels.photos import Channels, Photos, leave_out_copies, match_channels, prepare, read_photos
from few_labels.stored import Rows, Stored
from stages import run

CONNECT_AND_READ_SECONDS = (5, 60)
# Two zeros, and the type of unsigned bytes.
IDX_OF_BYTES = bytes([0, 0, 8])
LONGEST_IDX_HEADER = 4 + 4 * 255
# No more bytes than this come out of one byte of gzip.
MOST_UNPACKED_OF_ONE = 1032
ROWS_AT_ONCE = 4096
# One image has no neighbour, and no second class to tell it from.
LEAST_POOL = 2
PARTS = ("train", "test")
# On the screen; a file has them all.
MOST_NAMED = 5
# The names under which IDX files are looked for in a folder of one's own, images and labels.
OWN_IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class UnavailableError(Exception):
    """Why a source could not give the files."""


class SourceFile(BaseModel):
    """A file of a data set."""

    model_config = ConfigDict(extra="forbid")
    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class DebianPackage(BaseModel):
    """A Debian package of a data set, and where in it the files are."""

    model_config = ConfigDict(extra="forbid")
    package: str
    folder: str


class Files(BaseModel):
    """The files of a data set; one without test images has two."""

    model_config = ConfigDict(extra="forbid")
    train_images: SourceFile
    train_labels: SourceFile
    test_images: SourceFile | None = None
    test_labels: SourceFile | None = None


class IdxDescription(BaseModel):
    """A data set of IDX files, as a file under ``datasets/`` describes it."""

    model_config = ConfigDict(extra="forbid")
    title: str
    format: Literal["idx"]
    class_names: list[str]
    files: Files
    sites: dict[str, str] = {}
    debian: DebianPackage | None = None


class FolderDescription(BaseModel):
    """A folder of one's own."""

    model_config = ConfigDict(extra="forbid")
    title: str
    format: Literal["folder"]


@dataclass(frozen=True)
class Part:
    """The pool, or the test images.

    Attributes
    ----------
    name : list of str
    pictures : ndarray or Stored, uint8
        Images of shape (n_images, image_size, image_size, channels), or grey pictures of shape (n_images, height,
        width), of which `save_images` makes such.
    label : ndarray of shape (n_images,), int16
        Positions among the class names, -1 where nobody knows.
    """

    name: list[str]
    pictures: Rows
    label: NDArray[np.int16]

    def take(self, rows: NDArray[np.int64]) -> "Part":
        """Keep some of the images."""
        return Part([self.name[row] for row in rows], take(self.pictures, rows), self.label[rows])


def main(
    download: Download,
    descriptions: Annotated[Path, Option(help="a folder: what each data set is, a file a data set")],
    own: Annotated[Path, Option(help="where one's own images are")],
    train_images: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option()],
    train_names: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    test_labels: Annotated[Path, Option()],
    test_names: Annotated[Path, Option()],
    known_classes: Annotated[Path, Option()],
    rejected: Annotated[Path, Option(help="files that are no usable image, and why")],
) -> None:
    # Beside the names, whose files are no arrays.
    with scratch_beside(train_names) as pool_scratch, scratch_beside(test_names) as test_scratch:
        class_names, pool, test, refused = read_data_set(download, descriptions, own, (pool_scratch, test_scratch))
        if (n_kept := download.limit) is not None:
            check_limit(n_kept, len(class_names), len(pool.name), len(test.name))
            n_test = round(len(test.name) * n_kept / len(pool.name))
            pool, test = pool.take(balanced_head(pool.label, n_kept)), test.take(balanced_head(test.label, n_test))
        if len(pool.name) < LEAST_POOL:
            raise InputError(f"the pool has {len(pool.name)} image, allowed are {LEAST_POOL} or more")
        shape = shape_images(pool.pictures, download.image_size, Channels(download.channels))
        save_images(train_images, pool.pictures, shape)
        save_images(test_images, test.pictures, shape)
    save_array(train_labels, pool.label)
    save_names(train_names, pool.name)
    save_array(test_labels, test.label)
    save_names(test_names, test.name)
    n_labelled = int(np.count_nonzero(test.label != UNKNOWN))
    save_classes(known_classes, Classes(class_names, list(shape), n_labelled))
    with replacing(rejected) as temporary:
        refused.to_csv(temporary, index=False)
    if len(refused):
        first, reason = map(shorten, refused.iloc[0])
        print(f"{len(refused)} files are not used, {rejected} says why; the first is {first}: {reason}")
    n_known = np.count_nonzero(pool.label != UNKNOWN)
    print(
        f"{download.dataset}: {len(pool.name)} images in the pool, {n_known} with a known label, "
        f"{len(test.name)} test images, of shape {shape}"
    )


def read_data_set(
    download: Download, descriptions: Path, own: Path, scratch: tuple[Path, Path]
) -> tuple[list[str], Part, Part, pd.DataFrame]:
    """Read a data set of either kind.

    Parameters
    ----------
    download : Download
    descriptions : Path
        A folder: what each data set is, a file a data set.
    own : Path
        Where one's own images are.
    scratch : tuple of two Paths
        Files for images of the pool and of the test set that are too many to hold, as long as they are not saved.

    Returns
    -------
    class_names : list of str
    pool, test : Part
    rejected : DataFrame
        ``image`` and ``reason``: files that are no usable image.
    """
    described = describe(descriptions / f"{download.dataset}.yaml")
    none_rejected = pd.DataFrame(columns=["image", "reason"])
    if isinstance(described, IdxDescription):
        return described.class_names, *read_fetched(described, download.source), none_rejected
    if any(find_idx(own, file) for file in OWN_IDX["train"]):
        return *read_own_idx(own, scratch), none_rejected
    return read_own_photos(own, download.image_size, Channels(download.channels), scratch)


def describe(path: Path) -> IdxDescription | FolderDescription:
    """Read what a data set is.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, or it says something else; the message names the key.
    """
    if look_at(path) is not Kind.FILE:
        there = shorten(", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))))
        raise InputError(f"dataset is {quote(path.stem)}, allowed are {there}: the files in {path.parent}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({shorten(' '.join(str(error).split()), 300)})") from error
    kinds: dict[str, type[IdxDescription] | type[FolderDescription]] = {
        "idx": IdxDescription,
        "folder": FolderDescription,
    }
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"{path}: format is {quote(kind)}, allowed are {', '.join(kinds)}")
    try:
        return kinds[kind].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = shorten(".".join(map(str, first["loc"])))
        raise InputError(f"{path}: {where}: {shorten(first['msg'])}") from error


def read_fetched(described: IdxDescription, source: str) -> tuple[Part, Part]:
    """Fetch a data set of IDX files, and give its pool and its test images."""
    content = fetch(described, source)
    files = described.files

    def read(images: SourceFile | None, labels: SourceFile | None, part: str) -> Part:
        return make_idx_part(
            part,
            read_idx(content[images.name], images.name) if images else None,
            read_idx(content[labels.name], labels.name) if labels else None,
            len(described.class_names),
        )

    pool = read(files.train_images, files.train_labels, "train")
    return pool, read(files.test_images, files.test_labels, "test")


def read_own_idx(own: Path, scratch: tuple[Path, Path]) -> tuple[list[str], Part, Part]:
    """Read IDX files of one's own; those of labels and of test images may be missing."""
    if any((own / part).is_dir() for part in PARTS):
        raise InputError(f"{own} has IDX files and a folder of images, allowed is one of the two")
    found = {file: path for files in OWN_IDX.values() for file in files if (path := find_idx(own, file)) is not None}
    images = {
        file: open_idx(found[file], file, unpacked)
        for (file, _), unpacked in zip(OWN_IDX.values(), scratch, strict=True)
        if file in found
    }
    labels = {file: read_idx(read_source(found[file], file), file) for _, file in OWN_IDX.values() if file in found}
    n_classes = 1 + max((int(array.max(initial=0)) for array in labels.values()), default=-1)
    pool, test = (
        make_idx_part(part, images.get(pictures), labels.get(classes), n_classes)
        for part, (pictures, classes) in OWN_IDX.items()
    )
    if not len(pool.name):
        raise InputError(f"{own}: no image in {OWN_IDX['train'][0]}")
    return [str(label) for label in range(n_classes)], pool, test


def read_own_photos(
    own: Path, image_size: int, channels: Channels, scratch: tuple[Path, Path]
) -> tuple[list[str], Part, Part, pd.DataFrame]:
    """Read trees of image files.

    Parameters
    ----------
    own : Path
        Has a folder ``train`` and maybe a folder ``test``. The folders in them are classes.
    image_size : int
    channels : Channels
    scratch : tuple of two Paths
        As `read_data_set` takes it.

    Returns
    -------
    class_names : list of str
        Sorted.
    pool, test : Part
        A file that is in both trees is in ``test`` alone.
    rejected : DataFrame
        ``image`` and ``reason``.

    Raises
    ------
    InputError
        If the pool would be empty.
    """
    # One colour image makes all of them colour, wherever it is.
    train, test = match_channels(
        *(read_photos(own, part, image_size, channels, kept) for part, kept in zip(PARTS, scratch, strict=True))
    )
    train, copy_of = leave_out_copies(train, test)
    rejected = pd.concat([train.rejected, test.rejected], ignore_index=True)
    if copy_of:
        first = ", ".join(shorten(name) for name in list(copy_of)[:MOST_NAMED])
        more = f" and {len(copy_of) - MOST_NAMED} more" if len(copy_of) > MOST_NAMED else ""
        print(f"{len(copy_of)} images of the pool are in the test set too and are left out of the pool: {first}{more}")
    if not train.name:
        whys = [
            f"; of {len(rejected)} files the first is {shorten(n)}: {shorten(r)}"
            for n, r in rejected.head(1).to_numpy()
        ]
        raise InputError(f"{own / 'train'} has no usable image{''.join(whys)}; put your images there")
    class_names = sorted({name for part in (train, test) for name in part.folder_class if name is not None})
    position = {name: label for label, name in enumerate(class_names)}

    def make(part: Photos) -> Part:
        labels = [UNKNOWN if name is None else position[name] for name in part.folder_class]
        return Part(part.name, part.images, np.array(labels, np.int16))

    return class_names, make(train), make(test), rejected


def make_idx_part(part: str, images: Rows | None, labels: NDArray[np.uint8] | None, n_classes: int) -> Part:
    """Put images and labels from IDX files together.

    Parameters
    ----------
    part : str
        ``train`` or ``test``: the name of an image is this and its row.
    images : ndarray or Stored of shape (n_images, height, width), uint8, or None
    labels : ndarray of shape (n_images,), uint8, or None
        None where nobody knows.
    n_classes : int

    Returns
    -------
    Part

    Raises
    ------
    InputError
        If shapes or labels do not fit.
    """
    if images is None:
        return Part([], np.empty((0, 1, 1), np.uint8), np.empty(0, np.int16))
    if len(images.shape) != 3:
        raise InputError(f"the {part} images are an array of shape {images.shape}, allowed are (n, height, width)")
    if labels is not None and labels.shape != images.shape[:1]:
        raise InputError(f"the {part} labels are an array of shape {labels.shape} for {len(images)} images")
    if labels is not None and labels.max(initial=0) >= n_classes:
        raise InputError(f"a {part} label is {labels.max()}, allowed are 0 to {n_classes - 1}")
    label = np.full(len(images), UNKNOWN, np.int16) if labels is None else labels.astype(np.int16)
    return Part([f"{part}/{row:05}" for row in range(len(images))], images, label)


def shape_images(pictures: Rows, image_size: int, channels: Channels) -> tuple[int, ...]:
    """Give the shape that each of these comes out with: images as they are, grey pictures as is asked for."""
    if len(pictures.shape) == 4:
        return pictures.shape[1:]
    return image_size, image_size, 3 if channels is Channels.RGB else 1


def save_images(path: Path, pictures: Rows, shape: tuple[int, ...]) -> None:
    """Write images of one shape as ``.npy``, a block of rows at a time.

    Parameters
    ----------
    path : Path
    pictures : ndarray or Stored, uint8
        Images of that shape, or grey pictures of shape (n_images, height, width).
    shape : tuple of int
        Height, width and channels; the first two are equal.
    """
    with replacing(path) as temporary:
        images = Stored.create(temporary, (len(pictures), *shape), np.uint8)
        for rows in tqdm(cut(len(pictures), ROWS_AT_ONCE), desc=path.stem, unit="block", leave=False, disable=None):
            images[rows] = to_images(pictures[rows], shape)


def to_images(pictures: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Give images as they are, and scale and pad grey pictures to a shape."""
    if pictures.ndim == 4:
        return pictures
    size, _, n_channels = shape
    if pictures.shape[1:] == (size, size) and n_channels == 1:
        return pictures[..., None]
    return np.stack([prepare(Image.fromarray(picture), size, n_channels) for picture in pictures])


def check_limit(limit: int, n_classes: int, n_pool: int, n_test: int) -> None:
    """Refuse a limit that leaves a class out of one of the two sets.

    Test images that are fewer than the classes cannot have each of them, and set no limit.
    """
    lowest = max(LEAST_POOL, n_classes, -(-n_classes * n_pool // n_test) if n_test >= max(1, n_classes) else 0)
    lowest = min(lowest, n_pool)
    if not lowest <= limit <= n_pool:
        raise InputError(f"download.limit is {limit}, allowed are null and {lowest} to {n_pool}")


def fetch(described: IdxDescription, source: str) -> dict[str, bytes]:
    """Return the files of a data set from the first source that has them all, uncompressed and verified.

    Parameters
    ----------
    described : IdxDescription
    source : str
        ``auto`` tries the sites that the data set names and its Debian package, in this order; anything else is a
        folder.

    Returns
    -------
    dict of str to bytes
        File name to content.

    Raises
    ------
    InputError
        If no source has all of them; the message says what each one answered.
    """
    files = [file for _, file in described.files if file is not None]
    names = [file.name for file in files]
    if source != "auto":
        folder = Path(source)
        if look_at(folder) is not Kind.FOLDER:
            raise InputError(f"source is {quote(source)}, allowed are auto and a folder that holds {', '.join(names)}")
        sources: dict[str, Callable[[Path], Path]] = {f"folder {shorten(source)}": lambda _: folder}
    else:
        sources = {name: partial(download_from_site, url, names) for name, url in described.sites.items()}
        if described.debian:
            sources["Debian's package"] = partial(unpack_debian_package, described.debian)
    tried = []
    for name, gather in sources.items():
        print(f"looking at {name}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = gather(Path(scratch))
                return {file.name: read_verified(folder, file) for file in files}
            except UnavailableError as error:
                tried.append(f"{name}: {error}")
    raise InputError(f"{described.title} was not found; tried {'; '.join(tried) or 'nothing, it names no source'}")


def download_from_site(url: str, names: list[str], scratch: Path) -> Path:
    """Download gzipped files to a scratch folder, with a progress bar for each."""
    pooch.get_logger().setLevel(logging.WARNING)
    download = pooch.HTTPDownloader(progressbar=True, timeout=CONNECT_AND_READ_SECONDS)
    for file in names:
        try:
            download(f"{url}{file}.gz", str(scratch / f"{file}.gz"), None)
        except (RequestException, OSError) as error:
            raise UnavailableError(f"{file}.gz: {_root_cause(error)}") from error
    return scratch


def unpack_debian_package(debian: DebianPackage, scratch: Path) -> Path:
    """Let apt fetch a Debian package, refreshing its lists where it does not know it, and unpack it without root."""
    commands = [["apt-get", "download", debian.package]]
    if not _succeeds(["apt-cache", "show", debian.package], scratch):
        commands.insert(0, ["apt-get", "update"])
    for command in commands:
        _call(command, scratch)
    package = next(scratch.glob("*.deb"), None)
    if package is None:
        raise UnavailableError(f"apt-get download left no {debian.package}*.deb")
    _call(["dpkg-deb", "-x", str(package), "."], scratch)
    return scratch / debian.folder


def read_verified(folder: Path, file: SourceFile) -> bytes:
    """Return the uncompressed bytes of one file, gzipped on disk or not, once their SHA-256 is right."""
    try:
        path = find_idx(folder, file.name)
        if path is None:
            raise UnavailableError(f"no {file.name} or {file.name}.gz")
        content = read_source(path, file.name)
    except InputError as error:
        raise UnavailableError(str(error)) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise UnavailableError(f"{file.name} has {len(content)} bytes of SHA-256 {digest}, expected is {file.sha256}")
    return content


def find_idx(folder: Path, name: str) -> Path | None:
    """Find a file, gzipped or not; what is neither a file nor a folder is refused."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if look_at(path) is Kind.FILE), None)


def open_source(path: Path, name: str) -> BufferedIOBase:
    """Open a file, gzipped or not, for what it has unpacked."""
    return path.open("rb") if path.name == name else gzip.open(path)


def read_source(path: Path, name: str) -> bytes:
    """Read an IDX file, gzipped or not, as far as its header says and not much farther.

    A few bytes too many tell that something is wrong; all of them could be more than the memory holds. Nor is room made
    for what a header promises and the file cannot hold.
    """
    try:
        with open_source(path, name) as file:
            promised = measure_idx(file.read(LONGEST_IDX_HEADER))
            file.seek(0)
            most = MOST_UNPACKED_OF_ONE * path.stat().st_size
            return file.read(max(LONGEST_IDX_HEADER, min(promised, most)) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name} is damaged or cut short ({error})") from error
    except OSError as error:
        raise InputError(f"{shorten(path)} cannot be read ({error.strerror})") from error


def measure_idx(start: bytes) -> int:
    """Say how many bytes an IDX file has by its header, 0 where it has none."""
    if len(start) < 4 or len(start) < 4 + 4 * start[3]:
        return 0
    offset, shape = parse_header(start)
    return offset + math.prod(shape)


def parse_header(start: bytes) -> tuple[int, tuple[int, ...]]:
    """Give where the values of an IDX file start, and their shape."""
    return 4 + 4 * start[3], tuple(np.frombuffer(start, ">u4", start[3], offset=4).tolist())


def open_idx(path: Path, name: str, scratch: Path) -> Rows:
    """Read an IDX file, gzipped or not; one that is too large to hold stays where it is, or is unpacked to a file."""
    # What cannot be read, or is no IDX file, is said by those who read all of it.
    with suppress(OSError, EOFError, zlib.error), open_source(path, name) as file:
        start, n_bytes = file.read(LONGEST_IDX_HEADER), path.stat().st_size
        offset, shape = parse_header(start) if start[:3] == IDX_OF_BYTES and measure_idx(start) else (0, (0,))
        if not fits(shape):
            if path.name == name and n_bytes == measure_idx(start):
                return Stored(str(path.absolute()), offset, shape, np.dtype(np.uint8))
            if path.name != name and measure_idx(start) <= MOST_UNPACKED_OF_ONE * n_bytes:
                file.seek(offset)
                return unpack(file, shape, scratch)
    return read_idx(read_source(path, name), name)


def unpack(file: BufferedIOBase, shape: tuple[int, ...], scratch: Path) -> Stored:
    """Write what is left of a file as an array, a block of rows at a time.

    Raises
    ------
    EOFError
        If it does not end with the array.
    """
    images = Stored.create(scratch, shape, np.uint8)
    for rows in tqdm(cut(shape[0], ROWS_AT_ONCE), desc="unpacking", unit="block", leave=False, disable=None):
        block = np.empty((rows.stop - rows.start, *shape[1:]), np.uint8)
        if file.readinto(block.reshape(-1).data) < block.nbytes:
            raise EOFError
        images[rows] = block
    if file.read(1):
        raise EOFError
    return images


def read_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read the IDX format: two zero bytes, a type, the number of dimensions, each big-endian size, then the values.

    Parameters
    ----------
    content : bytes
        A whole IDX file of unsigned bytes.
    name : str
        For the message.

    Returns
    -------
    ndarray of uint8, of the shape that the header gives

    Raises
    ------
    InputError
        If it is anything else.
    """
    if len(content) < 4 or content[:3] != IDX_OF_BYTES:
        raise InputError(f"{name} starts with {content[:4].hex()}, an IDX file of unsigned bytes with 000008")
    if len(content) != measure_idx(content):
        more = "or more" if len(content) > measure_idx(content) else "alone"
        raise InputError(f"{name} has {len(content)} bytes {more}, its header says {measure_idx(content)}")
    offset, shape = parse_header(content)
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def balanced_head(labels: NDArray[np.int16], n_kept: int) -> NDArray[np.int64]:
    """Pick the first images of each class, as equally as ``n_kept`` allows, in their original order.

    Parameters
    ----------
    labels : ndarray of shape (n_images,), int16
        Unknown labels count as a class of their own.
    n_kept : int
        How many images to pick; classes of lower number get one more where it does not divide.

    Returns
    -------
    ndarray of shape (n_kept,), int64
        Ascending indices.
    """
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return np.sort(np.lexsort((labels, rank))[:n_kept])


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
