"""Read a folder of anyone's photos into one array, and say of every file that is left out why.

Pillow decodes; what it cannot decode, or what should not be opened at all, costs that file and nothing else. What may
differ from machine to machine has no say in the result: files go by name, not in the order of the file system, and any
number of threads gives the same bytes. A JPEG is decoded at an eighth to the whole of its size, whichever is the least
that serves (the ``draft`` mode of Pillow, by libjpeg's scaling), so that photos of 12 megapixels take little time and
memory. Equal files are told by a hash, BLAKE2b, of their bytes.
"""

import hashlib
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from few_labels.blocks import cut, first_columns, fits, take
from few_labels.errors import NO_FILE, InputError, Kind, look_at, shorten
from few_labels.stored import Rows, Stored

# Pillow reads more, but some of it by starting other programs. "JPEG" has MPO in it, the pictures of many phones.
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]
# More would not be faster for long, and each holds one decoded picture.
N_THREADS = min(4, os.cpu_count() or 1)
# Pictures of more pixels are decoded one at a time: the largest that Pillow accepts takes more than a gigabyte.
LARGE_PICTURE = 30_000_000
# How many times larger than the image a JPEG is decoded at least: from there on, nobody sees that it was not whole.
DRAFT_MARGIN = 2
COMPARED_AT_ONCE = 1024
# 0-65535 to 0-255, rounded.
EIGHT_OF_SIXTEEN_BITS = [(value + 128) // 257 for value in range(65536)]
# Control characters and ends of lines; the last range is how Python spells bytes that are not UTF-8.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_large_picture = threading.Lock()


class Channels(StrEnum):
    """What the images are read as."""

    AUTO = "auto"
    GREY = "grey"
    RGB = "rgb"


@dataclass(frozen=True)
class Photos:
    """The images of a folder, ordered by name, each once.

    Attributes
    ----------
    name : list of str
        The path of each file below the data set's folder, with ``/`` on every system.
    images : ndarray or Stored of shape (n_images, image_size, image_size, channels), uint8
        Of 1 channel where they are grey, of 3 for RGB.
    folder_class : list of str or None
        The name of the class folder that each file is in, at any depth; None where it is in none, or where files of the
        same bytes are in different ones.
    rejected : DataFrame
        The columns ``image``, a path that is safe to print, and ``reason``, one line; ordered by both.
    digest : list of bytes
        The hash of each file's bytes.
    original : dict of str to str
        Of each file that is rejected because another has the same bytes, the ``name`` of that one.
    """

    name: list[str]
    images: Rows
    folder_class: list[str | None]
    rejected: pd.DataFrame
    digest: list[bytes]
    original: dict[str, str]


def read_photos(folder: Path, part: str, image_size: int, channels: Channels, scratch: Path | None = None) -> Photos:
    """Read every photo of a data set, or of its part, in the order of their names.

    Parameters
    ----------
    folder : Path
        Of the data set. No link is followed out of it.
    part : str
        The folder below it to read, ``train`` or ``test``, or ``""`` for all. The folders in it are the classes.
    image_size : int
        Height and width of an image, in pixels; at least 1.
    channels : Channels
        ``AUTO`` gives grey where every image that is left is grey in every pixel, RGB otherwise.
    scratch : Path or None
        A file for images that are too many to hold; None holds them.

    Returns
    -------
    Photos
        Without images where the part does not exist or none of its files can be used.

    Raises
    ------
    InputError
        If ``folder`` is not a folder.
    MemoryError
        If there is too little memory to decode a file. It is named, and not rejected: another machine would read it.
    """
    if look_at(folder) is not Kind.FOLDER:
        raise InputError(f"{shorten(folder)}: not a folder, photos are read from a folder")
    found, reasons = _find_files(folder, part)
    n_channels = 1 if channels is Channels.GREY else 3
    read = partial(_read_photo, folder.resolve(), image_size=image_size, n_channels=n_channels)
    # Filled from the front: a list of images would be there twice when it becomes an array.
    shape = (len(found), image_size, image_size, n_channels)
    images: Rows = (
        np.empty(shape, np.uint8) if scratch is None or fits(shape) else Stored.create(scratch, shape, np.uint8)
    )
    first_of: dict[bytes, str] = {}
    original: dict[str, str] = {}
    # Not an executor, which would read all the rest before it lets an interruption through.
    with warnings.catch_warnings(), ThreadPool(N_THREADS) as threads:
        # Pillow warns, in the middle of the progress bar, of what does not keep it from reading a file.
        warnings.simplefilter("ignore")
        progress = tqdm(threads.imap(read, found), total=len(found), desc="reading photos", unit="image")
        for name, reading in zip(found, progress, strict=True):
            if isinstance(reading, str):
                reasons[name] = reading
                continue
            digest, image = reading
            if (first := first_of.setdefault(digest, name)) != name:
                original[name] = first
            else:
                images[len(first_of) - 1 : len(first_of)] = image[None]
    images = images[: len(first_of)] if isinstance(images, np.ndarray) else images.take(np.arange(len(first_of)))
    if channels is Channels.AUTO and _are_grey(images):
        images = first_columns(images, 1)

    class_of = {name: _class_folder(name, part) for name in found}
    disputed = {first for name, first in original.items() if len({class_of[name], class_of[first]} - {None}) > 1}
    for name, first in original.items():
        dispute = ", from which no class is taken: the same bytes are in different class folders"
        reasons[name] = f"same bytes as {first}{dispute if first in disputed else ''}"
    return Photos(
        name=list(first_of.values()),
        images=images,
        folder_class=[None if name in disputed else class_of[name] for name in first_of.values()],
        rejected=_tabulate(reasons.items()),
        digest=list(first_of),
        original=original,
    )


def leave_out_copies(pool: Photos, test: Photos) -> tuple[Photos, dict[str, str]]:
    """Take out of the pool what the test set has too: a classifier is not to be graded on what it learned from.

    Parameters
    ----------
    pool, test : Photos

    Returns
    -------
    Photos
        The pool, with one rejected file more for each image that it has less.
    dict of str to str
        What was taken out, and the image of the test set that has the same bytes, by name.
    """
    tested = dict(zip(test.digest, test.name, strict=True))
    copy_of = {name: tested[digest] for name, digest in zip(pool.name, pool.digest, strict=True) if digest in tested}
    if not copy_of:
        return pool, copy_of
    kept = [row for row, name in enumerate(pool.name) if name not in copy_of]
    reasons = [(name, f"same bytes as {test_name}, which is there to grade by") for name, test_name in copy_of.items()]
    left = Photos(
        name=[pool.name[row] for row in kept],
        images=take(pool.images, np.array(kept, np.int64)),
        folder_class=[pool.folder_class[row] for row in kept],
        rejected=_tabulate([*pool.rejected.itertuples(index=False, name=None), *reasons]),
        digest=[pool.digest[row] for row in kept],
        original={name: first for name, first in pool.original.items() if first not in copy_of},
    )
    return left, copy_of


def match_channels(*parts: Photos) -> list[Photos]:
    """Give the parts of a data set as many channels each: where one is RGB, the grey ones become RGB too.

    A grey part comes out as if it had been read as RGB, so every part can be read with ``Channels.AUTO`` first.

    Parameters
    ----------
    *parts : Photos
        At least one.

    Returns
    -------
    list of Photos
        Images that were repeated are a view that cannot be written to.
    """
    n_channels = max(part.images.shape[-1] for part in parts)
    return [replace(part, images=_give_channels(part.images, n_channels)) for part in parts]


def _give_channels(images: Rows, n_channels: int) -> Rows:
    if isinstance(images, Stored):
        # It was read as RGB, and has them all.
        return images.columns(n_channels)
    return np.broadcast_to(images, (*images.shape[:-1], n_channels))


def prepare(picture: Image.Image, image_size: int, channels: int) -> NDArray[np.uint8]:
    """Turn a picture of any mode and size into an image: upright, on white where it is transparent, padded with black.

    Parameters
    ----------
    picture : PIL.Image.Image
        As ``Image.open`` gives it: a JPEG whose pixels are loaded already is not decoded at a reduced size, and comes
        out a little different. It is loaded and turned in place.
    image_size : int
        Height and width of the image, in pixels; at least 1. The longer side of the picture is scaled to it.
    channels : int
        1 for grey, 3 for RGB.

    Returns
    -------
    ndarray of shape (image_size, image_size, channels), uint8
        16 bits of grey are scaled from 0-65535 to 0-255, whatever part of the range a picture uses.

    Raises
    ------
    InputError
        If the picture has 32 bits a pixel, integers or floats, of which nobody knows the range.
    """
    picture.draft(None, (DRAFT_MARGIN * image_size, DRAFT_MARGIN * image_size))
    picture.load()
    # Damaged EXIF makes Pillow raise every kind of error, and costs the turn at most: the pixels are read by now.
    with suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)
    square = _fit(_to_eight_bits(picture), image_size)
    return np.array(square.convert("L" if channels == 1 else "RGB")).reshape(image_size, image_size, channels)


def printable(name: str) -> str:
    """Escape what would garble a line of text: control characters, ends of lines, bytes that are not UTF-8."""
    return UNPRINTABLE.sub(lambda character: character[0].encode("unicode_escape").decode(), name)


def _tabulate(reasons: Iterable[tuple[str, str]]) -> pd.DataFrame:
    lines = sorted((printable(name), reason) for name, reason in reasons)
    return pd.DataFrame(lines, columns=["image", "reason"], dtype=object)


def _find_files(folder: Path, part: str) -> tuple[list[str], dict[str, str]]:
    """List what may be a photo, by its sorted name, and why a folder could not be listed, by its name."""
    top = folder / part
    if part and top.is_symlink():
        return [part], {}
    reasons: dict[str, str] = {}
    if not top.is_dir():
        return [], reasons

    def note(error: OSError) -> None:
        reasons[Path(error.filename).relative_to(folder).as_posix()] = _in_one_line(error)

    names = []
    for parent, subfolders, files in os.walk(top, onerror=note):
        subfolders[:] = [subfolder for subfolder in subfolders if not _is_clutter(subfolder)]
        # The walk does not enter them; they are named like a file, to be rejected like one.
        links = [subfolder for subfolder in subfolders if Path(parent, subfolder).is_symlink()]
        names += [Path(parent, file).relative_to(folder).as_posix() for file in files + links if not _is_clutter(file)]
    return sorted(names), reasons


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() == "thumbs.db"


def _class_folder(name: str, part: str) -> str | None:
    below = PurePosixPath(name).relative_to(part).parts
    return below[0] if len(below) > 1 else None


def _read_photo(folder: Path, name: str, image_size: int, n_channels: int) -> tuple[bytes, NDArray[np.uint8]] | str:
    """Read one file: the digest of its bytes and its image, or why it is not usable, in one line."""
    if UNPRINTABLE.search(name):
        return "its name has control characters in it, or is not valid UTF-8"
    path = folder / name
    try:
        if reason := _why_not_opened(path, folder):
            return reason
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            n_pixels = picture.width * picture.height
            with _large_picture if n_pixels > LARGE_PICTURE else nullcontext():
                image = prepare(picture, image_size, n_channels)
            file.seek(0)
            return hashlib.file_digest(file, "blake2b").digest(), image
    except UnidentifiedImageError:
        return f"not an image, or its beginning is damaged; allowed are {', '.join(FORMATS)}"
    except MemoryError as error:
        raise MemoryError(f"{shorten(name)} could not be decoded") from error
    # Whatever a damaged file makes a decoder raise, and that is every kind of error, the other files can be read.
    except Exception as error:
        return _in_one_line(error)


def _why_not_opened(path: Path, folder: Path) -> str | None:
    status = path.stat()
    if path.is_symlink() and not path.resolve().is_relative_to(folder):
        return "a link that leads out of the data set's folder"
    if stat.S_ISDIR(status.st_mode):
        return "a link to a folder; links are followed to files only"
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    return None if status.st_size else "an empty file"


def _in_one_line(error: Exception) -> str:
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(message.split())) or type(error).__name__


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Bring a picture to mode ``L`` where its mode is grey and it is opaque, otherwise to ``RGB``."""
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion to 8 bits clips at 255.
        return picture.convert("I").point(EIGHT_OF_SIXTEEN_BITS, "L")
    if picture.mode in ("I", "F"):
        raise InputError(f"pixels of 32 bits, mode {picture.mode}, whose range is not known; allowed are 8 and 16 bits")
    if picture.has_transparency_data:
        translucent = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        on_white = Image.new("RGB", picture.size, "white")
        on_white.paste(translucent, mask=translucent)
        return on_white
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _fit(picture: Image.Image, image_size: int) -> Image.Image:
    """Scale a picture until it touches two sides of a black square, in whose middle it is then."""
    # Not ImageOps.pad, for which a picture that is long enough becomes none at all.
    scale = image_size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new(picture.mode, (image_size, image_size))
    square.paste(
        picture.resize((width, height), Image.Resampling.BICUBIC),
        ((image_size - width) // 2, (image_size - height) // 2),
    )
    return square


def _are_grey(images: Rows) -> bool:
    # Some at a time: the comparison of all would take as much memory as they do.
    return all((some == some[..., :1]).all() for some in (images[rows] for rows in cut(len(images), COMPARED_AT_ONCE)))
