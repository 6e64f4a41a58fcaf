"""Train a convolutional network on the training set, and score images.

The images that choose the best epoch also say how far its probabilities can be trusted, in one temperature. They are
bought images and images that took a label from one, as the training set has them: bought ones alone are the typical
images of their clusters, or the hardest, and either kind would mislead.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Option

from few_labels.artifacts import load_classes, load_images, load_labelled, replacing, save_array
from few_labels.calibration import fit_temperature
from few_labels.images import to_unit_range
from few_labels.network import derive_seed, save_reproducibly, score, split, train_until_alive
from few_labels.parameters import TrainNN
from few_labels.tensorflow_setup import keras
from stages import run


def main(
    train_nn: TrainNN,
    seed: int,
    images: Annotated[Path, Option()],
    classes: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    model: Annotated[Path, Option()],
    training: Annotated[Path, Option(help="JSON: how the training went")],
    test_scores: Annotated[Path, Option(help="the scores of the classes for each test image")],
    pool_scores: Annotated[Path | None, Option(help="the same for each image of the pool")] = None,
    calibration: Annotated[Path | None, Option(help="JSON: the temperature of the probabilities")] = None,
    history: Annotated[Path | None, Option(help="folder for the loss and accuracy of each epoch")] = None,
) -> None:
    pictures, n_classes = load_images(images), len(load_classes(classes).class_names)
    labelled = load_labelled(training_set, len(pictures), n_classes)
    X = to_unit_range(pictures[labelled.index])
    with tempfile.TemporaryDirectory() as scratch:
        network, restarts = train_until_alive(
            X, labelled.label, n_classes, train_nn, seed, Path(scratch), labelled.weight
        )
        if history:
            for log in sorted(Path(scratch).glob("plots/metrics/*/*.tsv")):
                with replacing(history / log.parent.name / log.name) as temporary:
                    shutil.copyfile(log, temporary)
    save_reproducibly(network, model)
    # What is graded is what a reader loads: the network as it was saved.
    saved = keras.models.load_model(model)
    save_array(test_scores, score(saved, load_images(test_images)))
    if pool_scores:
        save_array(pool_scores, score(saved, pictures))
    if calibration:
        held_out, _ = split(len(X), train_nn.validation_fraction, derive_seed(seed, restarts))
        temperature = fit_temperature(score(saved, pictures[labelled.index[held_out]]), labelled.label[held_out])
        with replacing(calibration) as temporary:
            temporary.write_text(json.dumps({"temperature": temperature}) + "\n")
    with replacing(training) as temporary:
        temporary.write_text(json.dumps({"restarts": restarts}) + "\n")
    print(f"{train_nn.architecture} network on {len(labelled.index)} images, {restarts} restarts")


if __name__ == "__main__":
    run(main)
