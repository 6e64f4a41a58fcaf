"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used."""

from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from typer import Option

from few_labels.artifacts import load_images, replacing
from few_labels.blocks import open_array, run_partitions
from few_labels.embedding import Patches, Pixels, fit_patches
from few_labels.parameters import Embed
from few_labels.stored import Stored
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
    train, test = (open_array(load_images(path)) for path in (train_images, test_images))
    embedder: Pixels | Patches = Pixels()
    if embed.method == "patches":
        embedder = fit_patches(train, **embed.model_dump(exclude={"method"}), seed=seed)
        n_components = len(embedder.components.directions)
        print(f"{len(train)} images by {embed.n_words} visual words, {n_components} components")
    for images, embedding in ((train, train_embedding), (test, test_embedding)):
        with replacing(embedding) as temporary:
            if isinstance(embedder, Pixels):
                out = Stored.create(temporary, images.shape, np.uint8)
            else:
                out = Stored.create(temporary, (len(images), n_components), np.float32)
            run_partitions(embedder.transform, images, out=out, title=embedding.stem)
    with replacing(model) as temporary:
        joblib.dump(embedder, temporary)


if __name__ == "__main__":
    run(main)
