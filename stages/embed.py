"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used."""

from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import load_images, replacing, save_array
from few_labels.embedding import Patches, Pixels, fit_patches
from few_labels.parameters import Embed
from stages import run


def main(
    embed: Embed,
    seed: int,
    train_images: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    model: Annotated[Path, Option(help="what embeds other images alike")],
    train_embedding: Annotated[Path, Option()],
    test_embedding: Annotated[Path, Option()],
) -> None:
    train, test = load_images(train_images), load_images(test_images)
    embedder: Pixels | Patches = Pixels()
    embedded: NDArray[np.uint8 | np.float32] = train
    if embed.method == "patches":
        embedder, embedded = fit_patches(train, **embed.model_dump(exclude={"method"}), seed=seed)
        print(f"{len(train)} images by {embed.n_words} visual words, {embedded.shape[1]} components")
    save_array(train_embedding, embedded)
    save_array(test_embedding, embedder.transform(test))
    with replacing(model) as temporary:
        joblib.dump(embedder, temporary)


if __name__ == "__main__":
    run(main)
