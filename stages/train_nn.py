"""Train a network on the training set, and score images.

The images that choose the best epoch also say how far its probabilities can be trusted, in one temperature. They are
bought images and images that took a label from one, as the training set has them: bought ones alone are the typical
images of their clusters, or the hardest, and either kind would mislead.

Where there is a first network, this one goes on from it, for the steps that are left.

Where the answer is to come from whichever classifier bought labels prefer, the network is judged on them too, fold by
fold, as logistic regression is.
"""

import json
import shutil
import tempfile
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
    load_labelled,
    replacing,
    save_array,
)
from few_labels.blocks import open_array
from few_labels.calibration import fit_temperature
from few_labels.folds import cut_folds, grade_out_of_fold
from few_labels.network import derive_seed, save_reproducibly, score, split, train, train_until_alive
from few_labels.parameters import TrainNN
from few_labels.tensorflow_setup import keras
from stages import run


def main(
    train_nn: TrainNN,
    refine__max_steps: int,
    seed: int,
    evaluate__answer: str,
    images: Annotated[Path, Option(help="what the network sees, but for a dense one")],
    classes: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    embedding: Annotated[Path, Option(help="what a dense network sees")],
    test_embedding: Annotated[Path, Option()],
    bought: Annotated[Path, Option(help="the labels that a network is judged on out of fold")],
    first_network: Annotated[Path, Option(help="one to go on from, or an empty file")],
    model: Annotated[Path, Option()],
    training: Annotated[Path, Option(help="JSON: how the training went")],
    test_scores: Annotated[Path, Option(help="the scores of the classes for each test image")],
    pool_scores: Annotated[Path | None, Option(help="the same for each image of the pool")] = None,
    calibration: Annotated[Path | None, Option(help="JSON: the temperature of the probabilities")] = None,
    history: Annotated[Path | None, Option(help="folder for the loss and accuracy of each epoch")] = None,
) -> None:
    n_classes = len(load_classes(classes).class_names)
    if train_nn.architecture == "dense":
        pictures, test_pictures = (open_array(load_embedding(path)) for path in (embedding, test_embedding))
    else:
        pictures, test_pictures = (open_array(load_images(path)) for path in (images, test_images))
    labelled = load_labelled(training_set, len(pictures), n_classes)
    settings, initial_weights = train_nn, None
    if first_network.stat().st_size:
        settings = train_nn.model_copy(update={"max_steps": train_nn.max_steps - refine__max_steps})
        initial_weights = keras.models.load_model(first_network).get_weights()
    with tempfile.TemporaryDirectory() as scratch:
        network, restarts = train_until_alive(
            pictures, labelled, n_classes, settings, seed, Path(scratch), initial_weights
        )
        if history:
            for log in sorted(Path(scratch).glob("plots/metrics/*/*.tsv")):
                with replacing(history / log.parent.name / log.name) as temporary:
                    shutil.copyfile(log, temporary)
    save_reproducibly(network, model)
    # What is graded is what a reader loads: the network as it was saved.
    saved = keras.models.load_model(model)
    save_array(test_scores, score(saved, test_pictures))
    if pool_scores:
        save_array(pool_scores, score(saved, pictures))
    if calibration:
        held_out, _ = split(labelled.index, train_nn.validation_fraction, derive_seed(seed, restarts))
        temperature = fit_temperature(score(saved, pictures[labelled.index[held_out]]), labelled.label[held_out])
        with replacing(calibration) as temporary:
            temporary.write_text(json.dumps({"temperature": temperature}) + "\n")
    went: dict[str, float | None] = {"restarts": restarts}
    if evaluate__answer == "auto":
        purchase = load_labelled(bought, len(pictures), n_classes)
        went["out_of_fold"] = judge(pictures[purchase.index], purchase, n_classes, train_nn, seed)
    with replacing(training) as temporary:
        temporary.write_text(json.dumps(went) + "\n")
    print(f"{train_nn.architecture} network on {len(labelled.index)} images, {restarts} restarts")


def judge(
    X: NDArray[np.uint8 | np.float32], bought: LabelledImages, n_classes: int, settings: TrainNN, seed: int
) -> float | None:
    """Give the accuracy of networks on bought labels that they were not shown, each trained on the other folds.

    Parameters
    ----------
    X : ndarray of shape (n_bought, height, width, channels), uint8, or (n_bought, n_components), float32
        What a network sees of the bought images.
    bought : LabelledImages
    n_classes : int
    settings : TrainNN
    seed : int

    Returns
    -------
    float or None
        In 0-1; None where the labels are too few to judge by.
    """
    scores = np.zeros((len(X), n_classes), np.float32)
    for shown, judged in cut_folds(bought.label, seed=seed):
        with tempfile.TemporaryDirectory() as scratch:
            labelled = LabelledImages(shown, bought.label[shown])
            network = train(X, labelled, n_classes, settings, seed, Path(scratch))
        scores[judged] = score(network, X[judged])
    return grade_out_of_fold(scores, bought.label)


if __name__ == "__main__":
    run(main)
