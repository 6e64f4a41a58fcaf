"""The images as a browser gets them: a photo as it is on disk, shrunk, or else the pipeline's image, enlarged."""

import io
import secrets
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from few_labels.photos import FORMATS
from few_labels.stored import Rows

LARGE, SMALL = 1024, 160
# From here on a browser shows an image of few pixels as the squares that they are.
ENLARGED = {LARGE: 512, SMALL: 112}


class Pictures:
    """The images of a data set, as PNG or JPEG files that exist in memory alone.

    Parameters
    ----------
    names : list of str
        Of the images, by row: paths below ``folder`` where they are files there.
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    folder : Path or None
        Of photos; nothing outside it is ever read.

    Attributes
    ----------
    key : str
        Another one for each object: a part of the addresses that a browser keeps images by.
    """

    def __init__(self, names: list[str], images: Rows, folder: Path | None) -> None:
        self._names, self._images = names, images
        self.key = secrets.token_hex(4)
        self._folder = folder.resolve() if folder else None
        self.large = lru_cache(maxsize=64)(lambda row: self._draw(row, LARGE))
        self.small = lru_cache(maxsize=2048)(lambda row: self._draw(row, SMALL))

    def _draw(self, row: int, side: int) -> tuple[bytes, str]:
        """Give the bytes of a file and its media type."""
        try:
            photo = self._open_photo(self._names[row], side)
        # What a damaged file makes a decoder raise is every kind of error; the pipeline's image is there in any case.
        except Exception:
            photo = None
        if photo is None or max(photo.size) < ENLARGED[side]:
            return _to_png(photo or _to_picture(self._images[row]), ENLARGED[side]), "image/png"
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=90)
        return file.getvalue(), "image/jpeg"

    def _open_photo(self, name: str, side: int) -> Image.Image | None:
        if self._folder is None:
            return None
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            return None
        with Image.open(path, formats=FORMATS) as photo:
            photo.draft("RGB", (side, side))
            turned = ImageOps.exif_transpose(photo)
            if turned.mode == "L":
                return turned
            if turned.has_transparency_data:
                on_white = Image.new("RGBA", turned.size, "white")
                on_white.alpha_composite(turned.convert("RGBA"))
                turned = on_white
            # Modes of more than 8 bits a pixel are shown as the pipeline read them.
            return None if turned.mode.startswith(("I", "F")) else turned.convert("RGB")


def _to_picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))


def _to_png(picture: Image.Image, side: int) -> bytes:
    """Enlarge by a whole number, without smoothing."""
    times = max(1, -(-side // max(picture.size)))
    file = io.BytesIO()
    enlarged = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    enlarged.save(file, "PNG", compress_level=1)
    return file.getvalue()
