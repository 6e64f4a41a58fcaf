"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import load_images, replacing, save_array
from few_labels.embedding import Patches, Pixels, fit_patches
from stages import run


class Method(StrEnum):
    """What stands for an image."""

    PIXELS = "pixels"
    PATCHES = "patches"


def main(
    train_images: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    method: Annotated[Method, Option()],
    n_words: Annotated[int, Option(min=2, help="of the dictionary of patches")],
    patch_size: Annotated[int, Option(min=2, help="in pixels")],
    n_regions: Annotated[int, Option(min=1, max=8, help="along each side of the grid that words are summed over")],
    n_components: Annotated[int, Option(min=1, help="principal components kept")],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    model: Annotated[Path, Option(help="what embeds other images alike")],
    train_embedding: Annotated[Path, Option()],
    test_embedding: Annotated[Path, Option()],
) -> None:
    train, test = load_images(train_images), load_images(test_images)
    embedder: Pixels | Patches = Pixels()
    embedded: NDArray[np.uint8 | np.float32] = train
    if method is Method.PATCHES:
        embedder, embedded = fit_patches(
            train, n_words=n_words, patch_size=patch_size, n_regions=n_regions, n_components=n_components, seed=seed
        )
        print(f"{len(train)} images by {n_words} visual words, {embedded.shape[1]} components")
    save_array(train_embedding, embedded)
    save_array(test_embedding, embedder.transform(test))
    with replacing(model) as temporary:
        joblib.dump(embedder, temporary)


if __name__ == "__main__":
    run(main)
