"""Train a first network on labels that were spread once, and give what it makes of each image.

It learned which differences matter, which no embedding without labels can know: in its last hidden layer images of a
class lie closer together. There the bought labels are spread again, as in Iscen et al. (2019, "Label propagation for
deep semi-supervised learning"), and the network goes on from there with what comes of it. With ``max_steps`` 0, or
where no image is left to spread a label to, there is no first network: its file is empty, the arrays have no columns.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import (
    LabelledImages,
    load_classes,
    load_embedding,
    load_images,
    load_index,
    load_labelled,
    replacing,
    save_array,
    scratch_beside,
)
from few_labels.blocks import keep_partitions, map_partitions, open_array, open_rows, split
from few_labels.components import Components, fit_components
from few_labels.errors import InputError
from few_labels.parameters import Propagate, Refine, TrainLogreg, TrainNN
from few_labels.propagation import leave_out, require_two_classes, spread_by_scores
from few_labels.stored import Rows, Stored
from stages import run

# A percentile: the first network learns from all that labels spread to, each by its weight.
EVERY_IMAGE = 100


def main(
    refine: Refine,
    propagate: Propagate,
    train_logreg: TrainLogreg,
    train_nn: TrainNN,
    seed: int,
    images: Annotated[Path, Option()],
    embedding: Annotated[Path, Option()],
    classes: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    audit_images: Annotated[Path, Option(help="what nothing may be trained on")],
    learned_embedding: Annotated[Path, Option()],
    first_scores: Annotated[Path, Option(help="the network's scores of the classes for each image")],
    first_network: Annotated[Path, Option()],
) -> None:
    pictures, class_names = open_array(load_images(images)), load_classes(classes).class_names
    n_images = len(pictures)
    purchase = load_labelled(bought, n_images, len(class_names))
    audit = load_index(audit_images, n_images)
    if refine.max_steps == 0 or len(purchase.index) + len(audit) == n_images:
        with replacing(first_network) as temporary:
            temporary.touch()
        for path in (learned_embedding, first_scores):
            save_array(path, np.empty((n_images, 0), np.float32))
        print("no first network")
        return
    if propagate.method == "cluster":
        raise InputError(
            f"refine.max_steps is {refine.max_steps}, allowed is 0 where propagate.method is cluster: a first "
            "network's view of the images is for methods that compare them, such as graph-and-logreg"
        )
    if refine.max_steps >= train_nn.max_steps:
        raise InputError(
            f"refine.max_steps is {refine.max_steps}, allowed is less than train_nn.max_steps, "
            f"{train_nn.max_steps}, of which it is a part"
        )
    require_two_classes(purchase, class_names)
    embedded = load_embedding(embedding, n_images)
    X = open_rows(embedded)
    settings = train_nn.model_copy(update={"max_steps": refine.max_steps})
    with scratch_beside(first_scores) as kept, scratch_beside(first_network) as reduced:
        how = propagate, EVERY_IMAGE, train_logreg
        labelled = leave_out(spread_by_scores(X, purchase, class_names, *how, scratch=kept), audit)
        seen = open_array(embedded) if train_nn.architecture == "dense" else pictures
        activations, scores = look(seen, labelled, len(class_names), settings, seed, first_network, kept)
        learned = reduce_activations(X, activations, refine.n_components, reduced)
        with replacing(learned_embedding) as temporary:
            saved = Stored.create(temporary, learned.shape, np.float32)
            for rows in split(learned):
                saved[rows] = learned[rows]
    save_array(first_scores, scores)
    print(f"first network on {len(labelled.index)} images, {learned.shape[1]} components of its last hidden layer")


def look(
    pictures: Rows,
    labelled: LabelledImages,
    n_classes: int,
    settings: TrainNN,
    seed: int,
    path: Path,
    kept: Path | None = None,
) -> tuple[Rows, NDArray[np.float32]]:
    """Train a network, save it, and have it look at every image.

    Parameters
    ----------
    pictures : ndarray or Stored
        Of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32.
    labelled : LabelledImages
        The training set.
    n_classes : int
    settings : TrainNN
    seed : int
    path : Path
        Where the network is saved.
    kept : Path, optional
        Of the file in which the activations of stored pictures are kept.

    Returns
    -------
    activations : ndarray or Stored of shape (n_images, n_units), float32
        Of the last hidden layer.
    scores : ndarray of shape (n_images, n_classes), float32
    """
    # TensorFlow takes seconds to load, and a run without a first network does without.
    from few_labels.network import activate, save_reproducibly, train_until_alive

    with tempfile.TemporaryDirectory() as scratch:
        network, _ = train_until_alive(pictures, labelled, n_classes, settings, seed, Path(scratch))
    save_reproducibly(network, path)
    return activate(network, pictures, kept)


def reduce_activations(X: Rows, activations: Rows, n_components: int, path: Path | None = None) -> Rows:
    """Give principal components of activations, spread as widely as the embedding that they are to stand beside.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_images, n_features), float32
        The embedding.
    activations : ndarray or Stored of shape (n_images, n_units), float32
    n_components : int
        At most min(n_images, n_units) are given.
    path : Path, optional
        Of the file, as in `few_labels.blocks.keep_partitions`.

    Returns
    -------
    ndarray or Stored of shape (n_images, n_components), float32
        Of the same total variance as ``X``, or zeros where the activations are the same for all images.
    """
    components = fit_components(activations, min(n_components, *activations.shape))
    spread = float(components.variance.sum())
    # A dead layer tells nothing, and what is left of it by rounding is not to be blown up.
    if spread < np.finfo(np.float32).eps:
        return np.zeros((len(activations), len(components.directions)), np.float32)
    scale = np.float32(np.sqrt(sum_variances(X) / spread))
    return keep_partitions(partial(_project, components, scale), activations, len(components.directions), path)


def _project(components: Components, scale: np.float32, activations: NDArray[np.float32]) -> NDArray[np.float32]:
    return scale * components.transform(activations)


def sum_variances(X: Rows) -> float:
    """Sum the variances of all columns."""
    sums = list(map_partitions(_sum_moments, X))
    first, second = (np.sum([each[power] for each in sums], axis=0) / len(X) for power in (0, 1))
    return float((second - first**2).sum())


def _sum_moments(X: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.stack([X.sum(axis=0, dtype=np.float64), np.square(X).sum(axis=0, dtype=np.float64)])


if __name__ == "__main__":
    run(main)
