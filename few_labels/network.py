"""Networks, trained on labels of which some are wrong.

``compact`` is this project's network, and ``large`` its bigger sister, which has room for what mixed images teach.
``published`` is the network of the study that the project reproduces, whose one-channel bottleneck dies in about a
third of its runs: such a collapse is detected, and the training starts again from another seed. ``dense`` is a small
one for embedded images, of which an encoder has made all that there is to see.

A label counts as much as its weight says. Mixing images shows the network other ones at each epoch, so that it finds
an answer which holds between them too, instead of learning wrong labels by heart.
"""

# The callbacks below load TensorFlow by themselves: it has to be set up before them.
from few_labels.tensorflow_setup import keras, tf  # isort: skip

import json
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from dvclive import Live
from dvclive.keras import DVCLiveCallback
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

from few_labels.artifacts import LabelledImages, replacing
from few_labels.blocks import cut, make_rows, take
from few_labels.errors import InputError, require_several_classes
from few_labels.images import to_unit_range
from few_labels.parameters import Architecture, Schedule, TrainNN
from few_labels.stored import Rows, Stored

MAX_RESTARTS = 3
MIN_STEPS_PER_EPOCH = 16
N_LOOKED_AT = 1000
# Part of a result: in batches of another size the last digits of a score are others.
IMAGES_AT_ONCE = 500
# The scale and offset that bring pixels in 0-1 to about zero mean and unit variance, from which a network learns faster
# (LeCun et al. 1998, "Efficient BackProp").
CENTRED = (2.8, -0.8)
# Of the means and variances that batch normalisation answers with, the share that each further batch leaves as it was:
# a training is short.
BATCHES_REMEMBERED = 0.9
# Three convolutions without padding each take two pixels.
LEAST_SIDE_PUBLISHED = 7
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@keras.saving.register_keras_serializable("few_labels")
class PortableBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by a square root and a division, which every processor rounds alike.

    The method is that of Ioffe and Szegedy 2015. Keras takes a reciprocal square root, which TensorFlow starts from the
    processor's own estimate of it, and makers of processors estimate differently.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalise a batch by its own moments in training, and by those remembered of many when answering.

        Parameters
        ----------
        inputs : tf.Tensor of shape (n_images, ..., n_channels), float32
        training : bool

        Returns
        -------
        tf.Tensor of the same shape, float32
        """
        mean, variance = self.moving_mean, self.moving_variance
        if training:
            mean, variance = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
            for moving, now in [(self.moving_mean, mean), (self.moving_variance, variance)]:
                moving.assign(moving * self.momentum + now * (1 - self.momentum))
        # Of any other division by a square root TensorFlow's graph optimiser makes the reciprocal one.
        factor = tf.math.divide_no_nan(self.gamma, tf.sqrt(variance + self.epsilon))
        return inputs * factor + (self.beta - mean * factor)


def build(architecture: Architecture, image_shape: tuple[int, ...], n_classes: int) -> keras.Sequential:
    """Build an untrained network.

    Parameters
    ----------
    architecture : str
        ``compact``, ``large``, ``published`` or ``dense``.
    image_shape : tuple of int
        Height, width and channels; for ``dense`` the number of components, too.
    n_classes : int

    Returns
    -------
    keras.Sequential
        From images of that shape in 0-1 to a score for each class.

    Raises
    ------
    InputError
        If the images are too small for the architecture.
    """
    if architecture == "published" and min(image_shape[:2]) < LEAST_SIDE_PUBLISHED:
        raise InputError(
            f"architecture published is for images of {LEAST_SIDE_PUBLISHED} pixels a side or more, "
            f"these are of {image_shape[0]} x {image_shape[1]}"
        )
    # Layers are numbered from one in every network, so that a second one of a process is saved like the first.
    keras.utils.clear_session()
    layers = keras.layers
    stack = {
        # It strides and pools before the second layer: most of a network's time goes where the images are largest.
        "compact": lambda: [
            layers.Rescaling(*CENTRED),
            layers.Conv2D(32, 5, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(n_classes, activation="softmax"),
        ],
        # Dropout on both sides of the wide layer keeps labels that were spread, some of them wrong, from being learnt.
        # Batch normalisation halves the steps that it needs; after pooling it costs a quarter.
        "large": lambda: [
            layers.Conv2D(24, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(48, 3, padding="same", use_bias=False),
            layers.MaxPooling2D(),
            PortableBatchNormalization(momentum=BATCHES_REMEMBERED),
            layers.Activation("relu"),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            PortableBatchNormalization(momentum=BATCHES_REMEMBERED),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(192, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(n_classes, activation="softmax"),
        ],
        "published": lambda: [
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Conv2D(1, 1, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(n_classes, activation="sigmoid"),
        ],
        "dense": lambda: [
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(n_classes, activation="softmax"),
        ],
    }[architecture]
    return keras.Sequential([keras.Input(image_shape), *stack()], name=architecture)


def show(images: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
    """Give images as a network sees them: pixels in 0-1, or what an embedder made of them as it is."""
    return np.asarray(images) if images.dtype == np.float32 else to_unit_range(images.astype(np.uint8, copy=False))


def train_until_alive(
    pictures: Rows,
    labelled: LabelledImages,
    n_classes: int,
    settings: TrainNN,
    seed: int,
    history: Path,
    initial_weights: list[NDArray] | None = None,
) -> tuple[keras.Sequential, int]:
    """Train a network, and again from another seed as long as it collapses to one class.

    Parameters
    ----------
    pictures, labelled, n_classes, settings
        As in `train`.
    seed : int
        Each attempt derives its own seed from it.
    history : Path
        Folder for DVCLive's log of the last attempt.
    initial_weights : list of ndarray, optional
        As in `train`, for the first attempt.

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
    require_several_classes(len(np.unique(labelled.label)))
    for restarts in range(MAX_RESTARTS + 1):
        seed_of_attempt, start = derive_seed(seed, restarts), None if restarts else initial_weights
        network = train(pictures, labelled, n_classes, settings, seed_of_attempt, history, start)
        if not has_collapsed(network, pictures, labelled.index, seed):
            return network, restarts
        print(f"the network answers one class for every image (attempt {restarts + 1} of {MAX_RESTARTS + 1})")
    raise InputError(
        f"the {settings.architecture} network collapsed to one class in {MAX_RESTARTS + 1} attempts: "
        "try another seed, a lower learning_rate or architecture compact"
    )


def derive_seed(seed: int, attempt: int) -> int:
    """Give the seed of an attempt, counted from 0."""
    return int(np.random.SeedSequence((seed, attempt)).generate_state(1)[0])


def split(
    index: NDArray[np.int64], validation_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the images that choose the best epoch, and give them and those to learn from.

    An image is on the same side in every training set, so that a network which goes on from another one is judged by
    images that neither has learned from.

    Parameters
    ----------
    index : ndarray of shape (n_images,), int64
        Rows of the pool.
    validation_fraction : float
        In 0-1.
    seed : int

    Returns
    -------
    held_out, kept : ndarray, int64
        Positions in ``index``, shuffled; at least one each, of two images or more.
    """
    drawn = np.random.default_rng(seed).random(index.max() + 1)[index]
    shuffled = drawn.argsort(kind="stable")
    n_validation = int(np.clip(np.count_nonzero(drawn < validation_fraction), 1, max(1, len(index) - 1)))
    return shuffled[:n_validation], shuffled[n_validation:]


def train(
    pictures: Rows,
    labelled: LabelledImages,
    n_classes: int,
    settings: TrainNN,
    seed: int,
    history: Path,
    initial_weights: list[NDArray] | None = None,
) -> keras.Sequential:
    """Train a network once, and keep the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    pictures : ndarray or Stored of shape (n_images, height, width, channels), uint8, or float32 in 0-1
        Of the pool; or of shape (n_images, n_components), float32, for a dense network. What is stored is read batch by
        batch.
    labelled : LabelledImages
        Rows of the pool to learn from; a label counts as much as its weight says.
    n_classes : int
    settings : TrainNN
    seed : int
        Moves the split, the initial weights, the shuffling, the mixing and the dropout.
    history : Path
        Folder for DVCLive's log: loss and accuracy on both parts, epoch by epoch.
    initial_weights : list of ndarray, optional
        Of a network to go on from; by default they are drawn.

    Returns
    -------
    keras.Sequential
    """
    keras.utils.set_random_seed(seed)
    held_out, kept = split(labelled.index, settings.validation_fraction, seed)

    batch_size = min(settings.batch_size, max(1, len(kept) // MIN_STEPS_PER_EPOCH))
    steps_per_epoch = -(-len(kept) // batch_size)
    epochs = min(settings.max_epochs, max(1, round(settings.max_steps / steps_per_epoch)))

    network = build(settings.architecture, pictures.shape[1:], n_classes)
    if initial_weights is not None:
        network.set_weights(initial_weights)
    rate = settings.learning_rate * (batch_size / settings.batch_size) ** 0.5
    network.compile(
        optimizer=keras.optimizers.Adam(schedule_rate(rate, settings.schedule, epochs * steps_per_epoch)),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=min(MIN_STEPS_PER_EPOCH, steps_per_epoch),
    )
    _make_variables(network)
    # TensorFlow's own copies, once for both parts.
    X = take(pictures, labelled.index)
    images = X if isinstance(X, Stored) else tf.constant(X)
    targets = tf.constant(weigh_classes(labelled.label, n_classes, labelled.weight))
    network.fit(
        feed(images, targets, kept, batch_size, settings.mixup, seed),
        validation_data=feed(images, targets, held_out, batch_size),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=settings.patience, restore_best_weights=True),
            TqdmCallback(verbose=0),
            DVCLiveCallback(live=Live(str(history), save_dvc_exp=False, dvcyaml=None)),
        ],
    )
    return network


def _make_variables(network: keras.Sequential) -> None:
    """Make the variables of the optimiser, the loss and the metrics: Keras would while it traces a step, and twice."""
    target = tf.zeros((1, network.output_shape[-1]))
    network.optimizer.build(network.trainable_variables)
    network.compute_loss(y=target, y_pred=target)
    network.compute_metrics(None, target, target)
    network.reset_metrics()


def weigh_classes(
    y: NDArray[np.unsignedinteger], n_classes: int, weight: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Give the weight of each label in the column of its class, for a loss that is linear in its targets.

    Parameters
    ----------
    y : ndarray of shape (n_images,), unsigned integer
    n_classes : int
    weight : ndarray of shape (n_images,), float32, in 0-1, or None
        None weighs all by 1.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32
        0 in all columns but one of each row.
    """
    targets = np.zeros((len(y), n_classes), np.float32)
    targets[np.arange(len(y)), y] = 1 if weight is None else weight
    return targets


def feed(
    images: tf.Tensor | Stored,
    targets: tf.Tensor,
    rows: NDArray[np.int64],
    batch_size: int,
    mixup: float = 0,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Give what a network sees, batch by batch.

    Parameters
    ----------
    images : tf.Tensor or Stored of shape (n_images, height, width, channels), uint8, or float32 in 0-1
        Or of shape (n_images, n_components), float32, for a dense network.
    targets : tf.Tensor of shape (n_images, n_classes), float32
    rows : ndarray, int64
        Which images, in which order.
    batch_size : int
    mixup : float
        Above 0, images of a batch are mixed with each other, and their targets alike, in shares drawn from a beta
        distribution with this parameter twice (Zhang et al. 2018, "mixup: Beyond empirical risk minimization").
    seed : int, optional
        Shuffles the images, and mixes them, anew at each epoch; without one their order stays.

    Returns
    -------
    tf.data.Dataset
        Batches of images, float32, and of their targets.
    """
    mix = keras.layers.MixUp(alpha=mixup, seed=seed, dtype="float32")

    def look_up(some: tf.Tensor) -> tf.Tensor:
        if not isinstance(images, Stored):
            return tf.gather(images, some)
        read = tf.numpy_function(images.__getitem__, [some], images.dtype)
        return tf.ensure_shape(read, (None, *images.shape[1:]))

    def bring(some: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seen, wanted = look_up(some), tf.gather(targets, some)
        if seen.dtype == tf.uint8:
            seen = tf.cast(seen, tf.float32) / 255
        if mixup:
            mixed = mix({"images": seen, "labels": wanted}, training=True)
            seen, wanted = mixed["images"], mixed["labels"]
        return seen, wanted

    order = tf.data.Dataset.from_tensor_slices(rows)
    if seed is not None:
        order = order.shuffle(len(rows), seed=seed)
    options = tf.data.Options()
    # There is nothing to tune, and an epoch would wait up to a second for the end of the thread that does.
    options.autotune.enabled = False
    return order.batch(batch_size).map(bring).prefetch(1).with_options(options)


def schedule_rate(
    peak: float, schedule: Schedule, n_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Give the learning rate over ``n_steps``: constant, or warmed up and cooled down to zero."""
    if schedule == "constant":
        return peak
    warm_up = n_steps // 10
    return keras.optimizers.schedules.CosineDecay(0.0, n_steps - warm_up, warmup_target=peak, warmup_steps=warm_up)


def has_collapsed(network: keras.Sequential, pictures: Rows, index: NDArray[np.int64], seed: int) -> bool:
    """Tell whether a network answers the same class for all of some images, or for a thousand drawn from them."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(index))[:N_LOOKED_AT])
    answers = score(network, pictures[index[drawn]]).argmax(axis=1)
    return len(np.unique(answers)) == 1


def score(network: keras.Sequential, images: Rows) -> NDArray[np.float32]:
    """Score images, block by block.

    Parameters
    ----------
    network : keras.Sequential
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32
    """
    scores = np.empty((len(images), network.output_shape[-1]), np.float32)
    _look(network, images, [scores])
    return scores


def activate(network: keras.Sequential, images: Rows, path: Path | None = None) -> tuple[Rows, NDArray[np.float32]]:
    """Give what the last hidden layer makes of images, and their scores, block by block.

    Parameters
    ----------
    network : keras.Sequential
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32
    path : Path, optional
        Of the file in which the activations of stored images are kept.

    Returns
    -------
    activations : ndarray or Stored of shape (n_images, n_units), float32
    scores : ndarray of shape (n_images, n_classes), float32
    """
    last = network.layers[-1]
    kept = path if isinstance(images, Stored) else None
    activations = make_rows(len(images), last.input.shape[-1], kept)
    scores = np.empty((len(images), last.output.shape[-1]), np.float32)
    _look(keras.Model(network.inputs[0], [last.input, last.output]), images, [activations, scores])
    return activations, scores


def _look(seen: keras.Model, images: Rows, outputs: list[Rows]) -> None:
    """Write each output of a model for all images."""
    look = _compile(seen)
    for rows in cut(len(images), IMAGES_AT_ONCE):
        for output, part in zip(outputs, look(show(images[rows])), strict=True):
            output[rows] = part.numpy()


@lru_cache(maxsize=1)
def _compile(seen: keras.Model) -> Callable[[NDArray[np.float32]], list[tf.Tensor]]:
    """Compile a model for blocks of images, which halves the time.

    Not by ``predict``, which takes longer to compile than most sets take to run.
    """
    signature = [tf.TensorSpec(seen.inputs[0].shape)]
    return tf.function(lambda X: tf.nest.flatten(seen(X, training=False)), input_signature=signature)


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
