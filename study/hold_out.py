"""Hold a fifth of the bought labels out of the training, to choose settings by: they are within the budget."""

from pathlib import Path
from typing import Annotated

import numpy as np
from typer import Option

from few_labels.artifacts import LabelledImages, load_labelled, save_labelled
from stages import run

SHARE = 0.2
# Of images and of classes: whoever bought the labels has checked them.
ANY_NUMBER = np.iinfo(np.int64).max


def main(
    seed: int,
    bought: Annotated[Path, Option()],
    kept: Annotated[Path, Option()],
    held_out: Annotated[Path, Option()],
) -> None:
    purchase = load_labelled(bought, ANY_NUMBER, ANY_NUMBER)
    for destination, part in zip((kept, held_out), split(purchase, seed), strict=True):
        save_labelled(destination, part)


def split(bought: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Draw a fifth of the labels.

    Parameters
    ----------
    bought : LabelledImages
    seed : int
        Makes the draw repeatable.

    Returns
    -------
    kept, held_out : LabelledImages
    """
    n_bought = len(bought.index)
    drawn = np.zeros(n_bought, bool)
    drawn[np.random.default_rng(seed).choice(n_bought, round(n_bought * SHARE), replace=False)] = True
    kept, held_out = (LabelledImages(bought.index[part], bought.label[part]) for part in (~drawn, drawn))
    return kept, held_out


if __name__ == "__main__":
    run(main)
