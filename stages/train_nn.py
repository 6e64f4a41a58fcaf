"""Train a small convolutional network on the training set.

``compact`` is this project's network, and ``large`` its bigger sister, which has room for what mixed images teach.
``published`` is the network of the study that the project reproduces, whose one-channel bottleneck dies in about a
third of its runs: such a collapse is detected, and the training starts again from another seed.

A label counts as much as its weight says. Mixing images shows the network other ones at each epoch, so that it finds
an answer which holds between them too, instead of learning wrong labels by heart.
"""

# The callbacks below load TensorFlow by themselves: it has to be set up before them.
from stages.tensorflow_setup import keras, tf  # isort: skip

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from dvclive import Live
from dvclive.keras import DVCLiveCallback
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback
from typer import Option

from stages.artifacts import load_images, load_labelled, replacing, save_array
from stages.cli import InputError, run
from stages.dataset import CLASS_NAMES, IMAGE_SHAPE, to_unit_range

MAX_RESTARTS = 3
MIN_STEPS_PER_EPOCH = 16
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Architecture(StrEnum):
    """Which network: this project's, small or large, or the published study's."""

    COMPACT = "compact"
    LARGE = "large"
    PUBLISHED = "published"


class Precision(StrEnum):
    """What the products of the hidden layers are computed in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Schedule(StrEnum):
    """How the learning rate moves during training."""

    COSINE = "cosine"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Settings:
    """How a network is built and trained.

    Attributes
    ----------
    architecture : Architecture
    precision : Precision
        ``auto`` multiplies in bfloat16 where the processor has instructions for it, in float32 elsewhere.
    batch_size : int
        Images a step; a training set too small for 16 such steps an epoch takes smaller ones.
    learning_rate : float
        Adam's peak rate at ``batch_size``; smaller batches scale it by the square root of their ratio (Malladi et al.
        2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    schedule : Schedule
        ``cosine`` warms up over a tenth of the steps and falls to zero; ``constant`` keeps the rate.
    max_epochs, max_steps : int
        Training ends at the first of the two, rounded to whole epochs.
    patience : int
        Epochs without a lower validation loss before training stops early.
    validation_fraction : float
        Share of the training set held out to choose the best epoch, greater than 0 and at most 0.5.
    mixup : float
        Mix each image and its label with another's, anew at each epoch, in proportions drawn from a beta distribution
        with both parameters equal to this (Zhang et al. 2018, "mixup: Beyond empirical risk minimization"); 0 mixes
        none.
    """

    architecture: Architecture
    precision: Precision
    batch_size: int
    learning_rate: float
    schedule: Schedule
    max_epochs: int
    max_steps: int
    patience: int
    validation_fraction: float
    mixup: float


def main(
    images: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_images: Annotated[Path, Option()],
    architecture: Annotated[Architecture, Option()],
    precision: Annotated[Precision, Option()],
    batch_size: Annotated[int, Option(min=1)],
    learning_rate: Annotated[float, Option(min=1e-6, max=1)],
    schedule: Annotated[Schedule, Option()],
    max_epochs: Annotated[int, Option(min=1)],
    max_steps: Annotated[int, Option(min=1)],
    patience: Annotated[int, Option(min=1)],
    validation_fraction: Annotated[float, Option(min=0.01, max=0.5)],
    mixup: Annotated[float, Option(min=0, max=10)],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    model: Annotated[Path, Option()],
    training: Annotated[Path, Option(help="JSON: how the training went")],
    test_scores: Annotated[Path, Option(help="the scores of the classes for each test image")],
    history: Annotated[Path | None, Option(help="folder for the loss and accuracy of each epoch")] = None,
) -> None:
    settings = Settings(
        architecture,
        precision,
        batch_size,
        learning_rate,
        schedule,
        max_epochs,
        max_steps,
        patience,
        validation_fraction,
        mixup,
    )
    pictures = load_images(images)
    labelled = load_labelled(training_set, n_images=len(pictures))
    with tempfile.TemporaryDirectory() as scratch:
        network, restarts = train_until_alive(
            to_unit_range(pictures[labelled.index]), labelled.label, settings, seed, Path(scratch), labelled.weight
        )
        if history:
            for log in sorted(Path(scratch).glob("plots/metrics/*/*.tsv")):
                with replacing(history / log.parent.name / log.name) as temporary:
                    shutil.copyfile(log, temporary)
    save_reproducibly(network, model)
    save_array(test_scores, score_with_saved(model, load_images(test_images)))
    with replacing(training) as temporary:
        temporary.write_text(json.dumps({"restarts": restarts}) + "\n")
    print(f"{architecture} network on {len(labelled.index)} images, {restarts} restarts")


def build(architecture: Architecture, precision: Precision) -> keras.Sequential:
    """Build an untrained network.

    Parameters
    ----------
    architecture : Architecture
    precision : Precision

    Returns
    -------
    keras.Sequential
        From images of shape (28, 28, 1) in 0-1 to ten class scores.
    """
    # Layers are numbered from one in every network, so that a second one of a process is saved like the first.
    keras.utils.clear_session()
    bfloat16 = precision is Precision.BFLOAT16 or (precision is Precision.AUTO and has_bfloat16())
    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    layers = keras.layers
    stack = {
        # The first layer strides: most of a network's time goes where the images are largest.
        Architecture.COMPACT: lambda: [
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(len(CLASS_NAMES), activation="softmax", dtype="float32"),
        ],
        # Dropout on both sides of the wide layer keeps labels that were spread, some of them wrong, from being learnt.
        Architecture.LARGE: lambda: [
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(len(CLASS_NAMES), activation="softmax", dtype="float32"),
        ],
        Architecture.PUBLISHED: lambda: [
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Conv2D(1, 1, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(len(CLASS_NAMES), activation="sigmoid", dtype="float32"),
        ],
    }[architecture]
    return keras.Sequential([keras.Input((*IMAGE_SHAPE, 1)), *stack()], name=architecture.value)


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself; emulating it would be slower than float32."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def train_until_alive(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    settings: Settings,
    seed: int,
    history: Path,
    weight: NDArray[np.float32] | None = None,
) -> tuple[keras.Sequential, int]:
    """Train a network, and again from another seed as long as it collapses to one class.

    Parameters
    ----------
    X : ndarray of shape (n_images, 28, 28), float32, in 0-1
    y : ndarray of shape (n_images,), uint8
    settings : Settings
    seed : int
        Each attempt derives its own seed from it.
    history : Path
        Folder for DVCLive's log of the last attempt.
    weight : ndarray of shape (n_images,), float32, in 0-1, or None
        How much each label counts; None counts all alike.

    Returns
    -------
    network : keras.Sequential
    restarts : int
        0-3.

    Raises
    ------
    InputError
        If there are fewer than two classes, or every attempt collapsed.
    """
    if len(np.unique(y)) < 2:
        raise InputError(f"the training set has {len(np.unique(y))} class, allowed are 2 or more: buy more labels")
    for restarts in range(MAX_RESTARTS + 1):
        attempt_seed = int(np.random.SeedSequence((seed, restarts)).generate_state(1)[0])
        network = train(X, y, settings, attempt_seed, history, weight)
        if not has_collapsed(network, X):
            return network, restarts
        print(f"the network answers one class for every image (attempt {restarts + 1} of {MAX_RESTARTS + 1})")
    raise InputError(
        f"the {settings.architecture} network collapsed to one class in {MAX_RESTARTS + 1} attempts: "
        "try another seed, a lower learning_rate or architecture compact"
    )


def train(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    settings: Settings,
    seed: int,
    history: Path,
    weight: NDArray[np.float32] | None = None,
) -> keras.Sequential:
    """Train a network once, and keep the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    X : ndarray of shape (n_images, 28, 28), float32, in 0-1
    y : ndarray of shape (n_images,), uint8
    settings : Settings
    seed : int
        Moves the split, the initial weights, the shuffling, the mixing and the dropout.
    history : Path
        Folder for DVCLive's log: loss and accuracy on both parts, epoch by epoch.
    weight : ndarray of shape (n_images,), float32, in 0-1, or None
        How much each label counts; None counts all alike.

    Returns
    -------
    keras.Sequential
    """
    keras.utils.set_random_seed(seed)
    shuffled = np.random.default_rng(seed).permutation(len(X))
    n_validation = max(1, round(len(X) * settings.validation_fraction))
    held_out, kept = shuffled[:n_validation], shuffled[n_validation:]

    batch_size = min(settings.batch_size, max(1, len(kept) // MIN_STEPS_PER_EPOCH))
    steps_per_epoch = -(-len(kept) // batch_size)
    epochs = min(settings.max_epochs, max(1, round(settings.max_steps / steps_per_epoch)))

    network = build(settings.architecture, settings.precision)
    rate = settings.learning_rate * (batch_size / settings.batch_size) ** 0.5
    network.compile(
        optimizer=keras.optimizers.Adam(schedule_rate(rate, settings.schedule, epochs * steps_per_epoch)),
        loss="categorical_crossentropy" if settings.mixup else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=min(MIN_STEPS_PER_EPOCH, steps_per_epoch),
    )
    examples: dict[str, Any]
    if settings.mixup:
        targets = weigh_classes(y, weight)
        examples = {
            "x": mix(X[kept], targets[kept], settings.mixup, batch_size, seed),
            "shuffle": False,
            "validation_data": (X[held_out], targets[held_out]),
        }
    else:
        kept_weight, held_out_weight = (None, None) if weight is None else (weight[kept], weight[held_out])
        examples = {
            "x": X[kept],
            "y": y[kept],
            "sample_weight": kept_weight,
            "batch_size": batch_size,
            "validation_data": (X[held_out], y[held_out], held_out_weight),
        }
    network.fit(
        **examples,
        epochs=epochs,
        validation_batch_size=batch_size,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=settings.patience, restore_best_weights=True),
            TqdmCallback(verbose=0),
            DVCLiveCallback(live=Live(str(history), save_dvc_exp=False, dvcyaml=None)),
        ],
    )
    return network


def weigh_classes(y: NDArray[np.uint8], weight: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Give the weight of each label in the column of its class, for a loss that is linear in its targets.

    Parameters
    ----------
    y : ndarray of shape (n_images,), uint8
    weight : ndarray of shape (n_images,), float32, in 0-1, or None
        None weighs all by 1.

    Returns
    -------
    ndarray of shape (n_images, 10), float32
        0 in all columns but one of each row.
    """
    targets = np.zeros((len(y), len(CLASS_NAMES)), np.float32)
    targets[np.arange(len(y)), y] = 1 if weight is None else weight
    return targets


def mix(
    X: NDArray[np.float32], targets: NDArray[np.float32], alpha: float, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Shuffle images, and mix those of a batch with each other, anew at each epoch.

    Parameters
    ----------
    X : ndarray of shape (n_images, 28, 28), float32, in 0-1
    targets : ndarray of shape (n_images, 10), float32
    alpha : float
        Greater than 0: both parameters of the beta distribution.
    batch_size : int
    seed : int

    Returns
    -------
    tf.data.Dataset
        Batches of images of shape (n, 28, 28, 1) and of their targets.
    """
    layer = keras.layers.MixUp(alpha=alpha, seed=seed, dtype="float32")

    def mix_batch(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mixed = layer({"images": images, "labels": classes}, training=True)
        return mixed["images"], mixed["labels"]

    examples = tf.data.Dataset.from_tensor_slices((X[..., None], targets))
    return examples.shuffle(len(X), seed=seed).batch(batch_size).map(mix_batch).prefetch(1)


def schedule_rate(
    peak: float, schedule: Schedule, n_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Give the learning rate over ``n_steps``: constant, or warmed up and cooled down to zero."""
    if schedule is Schedule.CONSTANT:
        return peak
    warm_up = n_steps // 10
    return keras.optimizers.schedules.CosineDecay(0.0, n_steps - warm_up, warmup_target=peak, warmup_steps=warm_up)


def has_collapsed(network: keras.Sequential, X: NDArray[np.float32]) -> bool:
    """Tell whether a network answers the same class for all of the images, up to a thousand of them."""
    answers = network.predict(X[:1000], verbose=0).argmax(axis=1)
    return len(np.unique(answers)) == 1


def score_with_saved(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score images with a network as it was saved: what is graded is what a reader loads.

    Parameters
    ----------
    path : Path
        A ``.keras`` file.
    images : ndarray of shape (n_images, 28, 28), uint8

    Returns
    -------
    ndarray of shape (n_images, 10), float32
    """
    return keras.models.load_model(path).predict(to_unit_range(images), batch_size=500, verbose=0)


def save_reproducibly(network: keras.Sequential, path: Path) -> None:
    """Write a ``.keras`` file that depends on the network alone: no clock in it, no optimiser state.

    Parameters
    ----------
    network : keras.Sequential
    path : Path
        Where ``keras.models.load_model`` finds it.
    """
    uncompiled = keras.models.clone_model(network)
    uncompiled.set_weights(network.get_weights())
    with replacing(path) as temporary:
        uncompiled.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            parts = {part: archive.read(part) for part in sorted(archive.namelist())}
        metadata = json.loads(parts["metadata.json"])
        metadata["date_saved"] = "1980-01-01@00:00:00"
        parts["metadata.json"] = json.dumps(metadata).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for part, content in parts.items():
                archive.writestr(zipfile.ZipInfo(part, ZIP_EPOCH), content)


if __name__ == "__main__":
    run(main)
