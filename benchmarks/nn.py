"""The network on all 60,000 labels: an epoch of training, and the time to the published accuracy.

TensorFlow is imported inside the functions: the other cases, and the runner itself, do without.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Measurement, System, load, params
from few_labels.artifacts import LabelledImages
from few_labels.images import to_unit_range
from few_labels.parameters import TrainNN

if TYPE_CHECKING:
    from few_labels.network import keras

N_CLASSES = 10
PUBLISHED_ACCURACY = 0.8968
PUBLISHED_BATCH = 32
PUBLISHED_EPOCHS = 100
VALIDATION_FRACTION = 0.1
EPOCHS_MORE = 2
IMAGES_TO_COMPILE = 1000


def fit_ours(max_epochs: int | None = None) -> "keras.Sequential":
    """Train as the train-nn stage does, or for so many epochs, which are more than the steps that it takes."""
    from few_labels.network import train

    changes = {"max_epochs": max_epochs, "max_steps": 1_000_000} if max_epochs else {}
    settings = TrainNN(**params()["train_nn"] | changes)
    with tempfile.TemporaryDirectory() as history:
        labels = load("train_labels")
        labelled = LabelledImages(np.arange(len(labels)), labels)
        return train(load("train_images"), labelled, N_CLASSES, settings, params()["seed"], Path(history))


def compile_published(seed: int) -> "keras.Sequential":
    """Build the published network, untrained."""
    from few_labels.network import build, keras

    keras.utils.set_random_seed(seed)
    network = build("published", load("train_images").shape[1:], N_CLASSES)
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def fit_published(network: "keras.Sequential", n_images: int | None = None) -> None:
    """Train the published network for an epoch as its authors did, on all images or on the first few."""
    network.fit(
        to_unit_range(load("train_images")[:n_images]),
        load("train_labels")[:n_images],
        batch_size=PUBLISHED_BATCH,
        validation_split=VALIDATION_FRACTION,
        verbose=0,
    )


def accuracy(network: "keras.Sequential") -> float:
    """Grade a network on the test images."""
    answers = network.predict(to_unit_range(load("test_images")), batch_size=500, verbose=0)
    return float((answers.argmax(axis=1) == load("test_labels")).mean())


def measure_our_epoch() -> Measurement:
    """Time an epoch of ours: what more epochs take beyond the first, which also builds and compiles."""
    import few_labels.network  # noqa: F401  (its import is not what is timed)

    def seconds(epochs: int) -> float:
        start = perf_counter()
        fit_ours(epochs)
        return perf_counter() - start

    return with_rate((seconds(1 + EPOCHS_MORE) - seconds(1)) / EPOCHS_MORE)


def measure_published_epoch() -> Measurement:
    """Time an epoch of the published network, which a few images have made compile before."""
    network = compile_published(params()["seed"])
    fit_published(network, IMAGES_TO_COMPILE)
    measurement = Measurement()
    with measurement.clock():
        fit_published(network)
    return with_rate(measurement.seconds)


def with_rate(seconds: float) -> Measurement:
    """Give an epoch's time together with the images a second that it amounts to."""
    n_images = len(load("train_labels")) * (1 - VALIDATION_FRACTION)
    return Measurement(seconds, f"{n_images / seconds:.0f} images/s")


def measure_ours() -> Measurement:
    """Time a whole training of ours, start to end."""
    import few_labels.network  # noqa: F401

    measurement = Measurement()
    with measurement.clock():
        network = fit_ours()
    measurement.quality = f"{accuracy(network):.4f}"
    return measurement


def measure_published() -> Measurement:
    """Time the published network until an epoch ends at the published accuracy, from the first seed that learns.

    Attempts that collapse, which its authors had too, are not counted. If it never gets there, all its epochs are.
    """
    import few_labels.network  # noqa: F401

    for seed in range(params()["seed"], params()["seed"] + 10):
        measurement, best = Measurement(), 0.0
        network = compile_published(seed)
        for epoch in range(PUBLISHED_EPOCHS):
            with measurement.clock():
                fit_published(network)
            best = max(best, accuracy(network))
            measurement.quality = f"{best:.4f} after {epoch + 1} epochs"
            if best >= PUBLISHED_ACCURACY or (epoch == 0 and best < 0.2):
                break
        if best >= 0.2:
            break
    return measurement


SYSTEMS = [
    System("nn-epoch", "ours", measure_our_epoch),
    System("nn-epoch", "published network, batch 32", measure_published_epoch),
    System("nn-accuracy", "ours", measure_ours),
    System("nn-accuracy", "published network, batch 32", measure_published, cap=600),
]
