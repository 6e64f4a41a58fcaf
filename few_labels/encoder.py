"""Embed images by a network that others trained: any ONNX model, as a small YAML file beside it describes.

onnxruntime runs it, an image at a time and each in one thread, so that what an image becomes depends on no other, nor
on how many processors share the images. What the model's optimiser may choose by processor is turned off; onnxruntime
still picks the kernels that sum by the processor's instructions, and has no setting that pins them. So the bytes are
those of any machine of a kind, and on another kind the last digits may differ.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from few_labels.blocks import run_blocks
from few_labels.errors import InputError, Kind, look_at, quote, shorten
from few_labels.images import to_unit_range
from few_labels.stored import Rows, Stored

IMAGES_AT_ONCE = 16
N_SAMPLED_IMAGES = 2000
# The sum of the variances of all components: about that of the pixels of 28 x 28 grey images, in 0-1, on which the
# defaults of logistic regression and of the clustering were chosen.
SPREAD = 64.0
ERRORS_ALONE = 3

Layout = Literal["nchw", "nhwc"]
Resize = Literal["bicubic", "bilinear"]


class Description(BaseModel):
    """An encoder, as a file under ``encoders/`` describes it.

    Attributes
    ----------
    title : str
    file : str
        The ONNX model, in the folder of the description.
    sha256 : str
        Of that file. What it runs is code of somebody's: nothing but what was looked at once is loaded.
    image_size : int
        Height and width of the image that it takes, in pixels.
    resize : str
        How an image of another size is scaled to that one: ``bicubic`` or ``bilinear``.
    mean, std : list of float
        Of red, green and blue in 0-1, by which pixels are normalised.
    layout : str
        Whether the channels stand before the pixels, ``nchw``, or after them, ``nhwc``.
    output : str or None
        Which output is the embedding, one row of numbers an image; None takes the first.
    """

    model_config = ConfigDict(extra="forbid")
    title: str
    file: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    resize: Resize = "bicubic"
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]
    layout: Layout = "nchw"
    output: str | None = None


@dataclass(frozen=True)
class Encoder:
    """A model and how images are brought to it.

    Attributes
    ----------
    model : bytes
        Of the ONNX file.
    n_components : int
        How many numbers an image becomes.
    image_size, resize, mean, std, layout, output
        As in `Description`.
    scale : float
        What spreads the embedding as `fit_scale` says.
    """

    model: bytes
    n_components: int
    image_size: int
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout
    output: str | None
    scale: float = 1.0

    def transform(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, block by block.

        Parameters
        ----------
        images : ndarray of shape (n_images, height, width, channels), uint8
            Grey ones are shown in three equal channels.

        Returns
        -------
        ndarray of shape (n_images, n_components), float32
        """
        encoded = np.empty((len(images), self.n_components), np.float32)

        def encode_some(rows: slice) -> None:
            for row in range(rows.start, rows.stop):
                encoded[row] = self.encode(images[row])

        run_blocks(encode_some, len(images), IMAGES_AT_ONCE, title="encoder")
        encoded *= np.float32(self.scale)
        return encoded

    def encode(self, image: NDArray[np.uint8]) -> NDArray:
        """Give what the model makes of one image, whatever that is."""
        session = _open(self.model)
        output = self.output or session.get_outputs()[0].name
        (given,) = session.run([output], {session.get_inputs()[0].name: self._show(image)})
        return given

    def _show(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Bring an image to the model: one of shape (1, 3, image_size, image_size), or with the channels last."""
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
        size = (self.image_size, self.image_size)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling[self.resize.upper()])
        shown = to_unit_range(np.asarray(picture)) - np.array(self.mean, np.float32)
        shown /= np.array(self.std, np.float32)
        return np.ascontiguousarray(shown.transpose(2, 0, 1) if self.layout == "nchw" else shown)[None]


# One model at a time: its bytes are the key, so that a copy of an encoder, as a cluster sends it, opens none anew.
@lru_cache(maxsize=1)
def _open(model: bytes) -> Any:
    """Load a model in the one configuration in which a sum has one order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Images go over the processors, and what is done to one of them stays in its thread.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # The next level lays an image out as the processor's registers are wide.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = ERRORS_ALONE
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_encoder(folder: Path, name: str | None) -> Encoder:
    """Read an encoder by its name, and see that it runs.

    Parameters
    ----------
    folder : Path
        Of the descriptions and the models.
    name : str or None
        Of a description, without its suffix.

    Returns
    -------
    Encoder
        Not scaled yet.

    Raises
    ------
    InputError
        If there is none of that name, or it is not as it should be: a description that says something else, a model
        with another hash, one that onnxruntime does not run, or one that gives an image anything but a row of numbers.
    """
    path = folder / f"{name}.yaml"
    if name is None or look_at(path) is not Kind.FILE:
        there = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise InputError(f"embed.encoder is {quote(name)}, allowed are {shorten(there)}: the files in {folder}")
    described = _read_description(path)
    file = folder / described.file
    if look_at(file) is not Kind.FILE:
        raise InputError(
            f"{shorten(file)} is missing: make encoder brings this project's, docs/photos.md tells of others"
        )
    model = file.read_bytes()
    if (found := hashlib.sha256(model).hexdigest()) != described.sha256:
        raise InputError(f"{shorten(file)} has SHA-256 {found}, {path} says {described.sha256}: not loaded")
    settings = described.model_dump(exclude={"title", "file", "sha256"})
    encoder = Encoder(model, 0, **settings | {"mean": tuple(described.mean), "std": tuple(described.std)})
    try:
        given = encoder.encode(np.zeros((1, 1, 1), np.uint8))
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime raises a class of its own for each of its statuses
        said = " ".join(str(error).split())
        raise InputError(
            f"{shorten(file)}: onnxruntime does not run it as {path} says ({shorten(said, 300)})"
        ) from error
    if given.dtype != np.float32 or given.ndim != 2 or len(given) != 1 or not np.isfinite(given).all():
        raise InputError(
            f"{shorten(file)}: it makes {given.dtype} of shape {given.shape} of an image, allowed are finite numbers, "
            "float32 of shape (1, n): name another output, or export the model with one"
        )
    return replace(encoder, n_components=given.shape[1])


def _read_description(path: Path) -> Description:
    try:
        return Description.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({shorten(' '.join(str(error).split()), 300)})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = shorten(".".join(map(str, first["loc"])) or "the whole")
        raise InputError(f"{path}: {where}: {shorten(first['msg'])}") from error


def fit_scale(encoder: Encoder, images: Rows, *, seed: int) -> tuple[Encoder, NDArray[np.float32] | None]:
    """Spread what an encoder gives as widely as `SPREAD`, so that settings which count in its units fit any encoder.

    Parameters
    ----------
    encoder : Encoder
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    seed : int
        Draws the images that the spread is measured on.

    Returns
    -------
    encoder : Encoder
    embedding : ndarray of shape (n_images, n_components), float32, or None
        Of images in memory; those in a file are for ``transform``.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(len(images))[:N_SAMPLED_IMAGES])
    if isinstance(images, Stored):
        encoded, samples = None, encoder.transform(images[sample])
    else:
        encoded = encoder.transform(images)
        samples = encoded[sample]
    variance = max(samples.var(axis=0, dtype=np.float64).sum(), np.finfo(np.float32).tiny)
    scale = float(np.sqrt(SPREAD / variance))
    return replace(encoder, scale=scale), None if encoded is None else encoded * np.float32(scale)
