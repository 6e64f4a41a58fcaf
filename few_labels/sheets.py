"""Contact sheets: many small images in one picture, as they are, with what there is to say about each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

PAPER = 255
LONGEST_CAPTION = 16


def tile(images: NDArray[np.uint8], n_rows: int, n_columns: int, gap: int = 0) -> NDArray[np.uint8]:
    """Lay images out on white paper, row after row.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
        At most ``n_rows * n_columns``.
    n_rows, n_columns : int
    gap : int
        Pixels of paper below each image.

    Returns
    -------
    ndarray of shape (n_rows * (height + gap), n_columns * width, 3), uint8
    """
    _, height, width, _ = images.shape
    paper = np.full((n_rows * n_columns, height + gap, width, 3), PAPER, np.uint8)
    paper[: len(images), :height] = images  # the one channel of grey serves as all three
    mosaic = paper.reshape(n_rows, n_columns, height + gap, width, 3).swapaxes(1, 2)
    return mosaic.reshape(n_rows * (height + gap), n_columns * width, 3)


def draw_sheet(images: NDArray[np.uint8], captions: Sequence[str], title: str, n_columns: int = 10) -> Figure:
    """Show images with a caption below each.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), uint8
    captions : sequence of str
        One an image; a long line is cut.
    title : str
    n_columns : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    _, height, width, _ = images.shape
    n_rows = max(1, -(-len(images) // n_columns))
    gap, margin = max(2, round(0.45 * height)), max(1, round(0.05 * width))
    # Paper between neighbours too: nobody sees where one photo ends otherwise.
    images = np.pad(images, [(0, 0), (0, 0), (0, margin), (0, 0)], constant_values=PAPER)
    width += margin
    figure = Figure(figsize=(12, 1 + n_rows * 1.2 * (height + gap) / width), layout="constrained")
    axes = figure.subplots()
    axes.imshow(tile(images, n_rows, n_columns, gap), interpolation="nearest")
    for position, caption in enumerate(captions):
        row, column = divmod(position, n_columns)
        lines = "\n".join(shorten(line) for line in caption.split("\n"))
        axes.text(
            *((column + 0.5) * width - 0.5 - margin / 2, row * (height + gap) + height),
            *(lines,),
            ha="center",
            va="top",
            fontsize=8,
            parse_math=False,
        )
    axes.set_axis_off()
    figure.suptitle(title)
    return figure


def shorten(text: str, longest: int = LONGEST_CAPTION) -> str:
    """Cut a long text in its middle, and show that it was: many names differ only at one end."""
    if len(text) <= longest:
        return text
    n_tail = (longest - 1) // 2
    return f"{text[: longest - 1 - n_tail]}…{text[-n_tail:]}"
