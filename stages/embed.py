"""Represent images in the space that the clustering, the graph and logistic regression work in; no label is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import joblib
import numpy as np
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import load_images, replacing
from few_labels.blocks import open_array, run_partitions
from few_labels.embedding import Patches, Pixels, fit_patches
from few_labels.parameters import Embed
from few_labels.stored import Stored
from stages import run

if TYPE_CHECKING:
    from few_labels.encoder import Encoder


def main(
    embed: Embed,
    seed: int,
    train_images: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    encoders: Annotated[Path, Option(help="folder of what others trained")],
    model: Annotated[Path, Option(help="what embeds other images alike")],
    train_embedding: Annotated[Path, Option()],
    test_embedding: Annotated[Path, Option()],
) -> None:
    train, test = (open_array(load_images(path)) for path in (train_images, test_images))
    embedder: Pixels | Patches | Encoder = Pixels()
    embedded: NDArray[np.uint8 | np.float32] | None = None
    row: tuple[int, ...] = train.shape[1:]
    if embed.method == "patches":
        embedder, embedded = fit_patches(train, **embed.model_dump(exclude={"method", "encoder"}), seed=seed)
        row = embedder.components.variance.shape
        print(f"{len(train)} images by {embed.n_words} visual words, {row[0]} components")
    elif embed.method == "encoder":
        # What reads photos takes a while to load, and the other methods do without.
        from few_labels.encoder import fit_scale, read_encoder

        embedder, embedded = fit_scale(read_encoder(encoders, embed.encoder), train, seed=seed)
        row = (embedder.n_components,)
        print(f"{len(train)} images by {embed.encoder}, {row[0]} components")
    for images, known, path in ((train, embedded, train_embedding), (test, None, test_embedding)):
        with replacing(path) as temporary:
            out = Stored.create(temporary, (len(images), *row), np.uint8 if embed.method == "pixels" else np.float32)
            if known is not None:
                out[:] = known
            else:
                run_partitions(embedder.transform, images, out=out, title=path.stem)
    with replacing(model) as temporary:
        joblib.dump(embedder, temporary)


if __name__ == "__main__":
    run(main)
