"""The networks are those promised, a collapse is noticed and mended, and a file depends on the network alone."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from few_labels import network as networks
from few_labels.artifacts import LabelledImages
from few_labels.errors import InputError
from few_labels.images import to_unit_range
from few_labels.network import (
    activate,
    build,
    derive_seed,
    feed,
    has_collapsed,
    save_reproducibly,
    score,
    split,
    train,
    train_until_alive,
    weigh_classes,
)
from few_labels.parameters import Architecture, TrainNN
from few_labels.stored import Rows, Stored
from few_labels.tensorflow_setup import keras, tf
from tests.conftest import Clone, read_images, read_labels

FASHION = (28, 28, 1)
SETTINGS = TrainNN(
    architecture="compact",
    batch_size=64,
    learning_rate=0.002,
    schedule="cosine",
    max_epochs=20,
    max_steps=300,
    patience=10,
    validation_fraction=0.1,
    mixup=0,
)


@pytest.fixture(scope="module")
def images(idx_folder: Path) -> np.ndarray:
    return to_unit_range(read_images(idx_folder)[:2000])


@pytest.fixture(scope="module")
def labels(idx_folder: Path) -> np.ndarray:
    return read_labels(idx_folder)[:2000]


def label_all(labels: np.ndarray, weight: np.ndarray | None = None) -> LabelledImages:
    """Give the first images of a pool each its label."""
    return LabelledImages(np.arange(len(labels)), labels, weight)


def forward_multiplications(network: keras.Sequential) -> int:
    """Count the multiplications of one image's way through the network."""
    count = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            count += np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            count += np.prod(layer.kernel.shape)
    return int(count)


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_a_network_has_as_many_layers_as_promised(architecture: Architecture) -> None:
    n_layers = {"compact": 8, "large": 13, "published": 7, "dense": 5}[architecture]
    assert len(build(architecture, FASHION, 10).layers) == n_layers


def test_a_dense_network_takes_embedded_images_as_they_are() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    network = build("dense", rows.shape[1:], 3)
    assert score(network, rows).shape == (30, 3)
    np.testing.assert_allclose(score(network, rows), network.predict(rows, verbose=0), rtol=1e-5)
    assert score(network, 10 * rows).tolist() != score(network, rows).tolist()


def test_the_published_network_is_the_published_one() -> None:
    assert build("published", FASHION, 10).count_params() == 124_491


def test_the_compact_network_costs_at_most_an_eighth() -> None:
    compact, published = (forward_multiplications(build(a, FASHION, 10)) for a in ("compact", "published"))
    assert 8 * compact <= published


def test_it_learns_and_keeps_the_best_epoch(images: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    overfitting = SETTINGS.model_copy(update={"schedule": "constant", "learning_rate": 0.004, "max_steps": 600})
    network, restarts = train_until_alive(images, label_all(labels), 10, overfitting, seed=1, history=tmp_path)
    assert restarts == 0
    scores = score(network, images)
    assert scores.shape == (2000, 10)
    assert (scores.argmax(axis=1) == labels).mean() > 0.85
    losses = np.loadtxt(tmp_path / "plots" / "metrics" / "eval" / "loss.tsv", skiprows=1)[:, 1]
    assert losses.argmin() < len(losses) - 1
    held_out, _ = split(np.arange(2000), 0.1, derive_seed(1, 0))
    network.compile(loss="sparse_categorical_crossentropy")
    kept_loss = network.evaluate(images[held_out], labels[held_out], verbose=0, return_dict=True)["loss"]
    assert kept_loss == pytest.approx(losses.min(), rel=1e-3)


def test_the_seed_draws_the_initial_weights(images: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    """A rate of zero leaves the weights as they were drawn."""
    untaught = SETTINGS.model_copy(update={"learning_rate": 0, "schedule": "constant", "max_steps": 1, "max_epochs": 1})
    one, again, other = (
        train(images, label_all(labels[:64]), 10, untaught, seed, tmp_path / str(run)).get_weights()[0]
        for run, seed in enumerate([1, 1, 2])
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9


def test_an_image_is_held_out_of_every_training_set_of_a_seed_or_of_none() -> None:
    whole, part = np.arange(1000), np.arange(0, 1000, 3)
    held_out, kept = split(whole, 0.1, seed=5)
    assert 60 < len(held_out) < 140
    assert sorted([*held_out, *kept]) == whole.tolist()
    fewer, others = split(part, 0.1, seed=5)
    assert set(part[fewer]) == set(held_out) & set(part)
    assert set(part[others]) == set(kept) & set(part)
    assert [len(some) for some in split(np.array([3, 8]), 1.0, seed=5)] == [1, 1]


def test_a_network_goes_on_from_given_weights(images: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    """A rate of zero leaves the weights as they were given."""
    untaught = SETTINGS.model_copy(update={"learning_rate": 0, "schedule": "constant", "max_steps": 1, "max_epochs": 1})
    given = [np.full_like(weights, 0.1) for weights in build("compact", FASHION, 10).get_weights()]
    given[-1] = np.random.default_rng(0).random(10, np.float32)
    network = train(images, label_all(labels[:64]), 10, untaught, 1, tmp_path, initial_weights=given)
    for weights, expected in zip(network.get_weights(), given, strict=True):
        np.testing.assert_array_equal(weights, expected)


MIXING = SETTINGS.model_copy(update={"mixup": 0.5})


def test_mixed_images_have_the_mixture_of_their_targets(images: np.ndarray) -> None:
    targets = weigh_classes(np.arange(10, dtype=np.uint8), 10, None)
    examples = feed(tf.constant(images), tf.constant(targets), np.arange(10), batch_size=50, mixup=1.0, seed=1)
    made = [batch for _ in range(20) for batch in examples]
    changed, mixed = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*made, strict=True))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(changed, np.tensordot(mixed, images[:10], axes=1), atol=1e-6)
    assert ((mixed > 0).sum(axis=1) == 2).any()


def test_each_image_comes_once_an_epoch_with_its_target(idx_folder: Path) -> None:
    pictures, rows = read_images(idx_folder)[:100], np.array([7, 3, 90, 50, 4])
    targets = np.arange(200, dtype=np.float32).reshape(100, 2)
    given = tf.constant(pictures), tf.constant(targets)
    in_order = list(feed(*given, rows, batch_size=3))
    assert [len(part) for part, _ in in_order] == [3, 2]
    wanted = to_unit_range(pictures[rows]), targets[rows]
    for found, expected in zip(zip(*in_order, strict=True), wanted, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected)
    shuffled = feed(*given, rows, batch_size=5, seed=1)
    first, second = (np.concatenate([part for _, part in shuffled])[:, 0] // 2 for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(rows)
    assert first.tolist() != second.tolist()


def test_a_label_counts_as_much_as_its_weight_says(images: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    """Half of the labels are wrong and weigh next to nothing."""
    wrong = np.arange(len(labels)) % 2 == 0
    given = np.where(wrong, (labels + 1) % 10, labels).astype(np.uint8)
    weight = np.where(wrong, 0.01, 1).astype(np.float32)
    for name, settings in {"plain": SETTINGS, "mixing": MIXING}.items():
        network, _ = train_until_alive(images, label_all(given, weight), 10, settings, 1, tmp_path / name)
        assert (score(network, images).argmax(axis=1) == labels).mean() > 0.7


def test_a_network_that_keeps_collapsing_is_an_error(images: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    # At this rate the first step kills every unit of the published network's one-channel layer.
    deadly = SETTINGS.model_copy(update={"architecture": "published", "learning_rate": 1.0, "schedule": "constant"})
    deadly = deadly.model_copy(update={"max_steps": 8, "max_epochs": 1})
    with pytest.raises(InputError, match="the published network collapsed to one class in 4 attempts"):
        train_until_alive(images, label_all(labels[:256]), 10, deadly, seed=1, history=tmp_path)


def test_a_collapse_starts_again_from_another_seed(
    images: np.ndarray, labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    learn, short = networks.train, SETTINGS.model_copy(update={"max_steps": 16, "max_epochs": 1})

    def train_badly_twice(*args: Any, **kwargs: Any) -> keras.Sequential:
        seeds.append(args[4])
        network = learn(*args, **kwargs)
        if len(seeds) <= 2:
            network.set_weights([np.zeros_like(weights) for weights in network.get_weights()])
        return network

    monkeypatch.setattr(networks, "train", train_badly_twice)
    _, restarts = train_until_alive(images, label_all(labels[:256]), 10, short, seed=1, history=tmp_path)
    assert restarts == 2
    assert len(set(seeds)) == 3


def test_a_folder_sorted_by_class_does_not_look_collapsed(images: np.ndarray, labels: np.ndarray) -> None:
    """The first thousand images are of one class, and the network is right about all of them."""
    network = build("compact", FASHION, 2)
    last = network.layers[-1]
    last.set_weights([np.zeros_like(weights) for weights in last.get_weights()])
    bright = np.concatenate([np.zeros((1500, *FASHION)), np.ones((500, *FASHION))]).astype(np.float32)
    answers = keras.Sequential([keras.Input(FASHION), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2)])
    answers.layers[-1].set_weights([np.array([[-1.0, 1.0]]), np.array([0.5, -0.5])])
    assert not has_collapsed(answers, bright, np.arange(2000), seed=0)
    assert has_collapsed(network, bright, np.arange(2000), seed=0)


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_the_scores_are_what_the_last_layer_makes_of_the_activations(
    architecture: Architecture, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "IMAGES_AT_ONCE", 40)
    pictures = read_images(idx_folder)[:100]
    network = build(architecture, FASHION, 10)
    activations, scores = activate(network, pictures)
    np.testing.assert_allclose(scores, score(network, pictures), atol=1e-6)
    assert len(activations) == 100
    np.testing.assert_allclose(network.layers[-1](activations), scores, atol=1e-5)


@pytest.mark.parametrize(("shape", "n_classes"), [((8, 8, 1), 2), ((64, 64, 3), 200)])
@pytest.mark.parametrize("architecture", ["compact", "large"])
def test_any_shape_and_number_of_classes(
    architecture: Architecture, shape: tuple[int, int, int], n_classes: int
) -> None:
    network = build(architecture, shape, n_classes)
    assert network(np.zeros((2, *shape), np.float32)).shape == (2, n_classes)


def test_one_class_is_too_few(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 class, allowed are 2 or more"):
        train_until_alive(images, label_all(np.full(9, 3, np.uint8)), 10, SETTINGS, seed=1, history=tmp_path)


LARGE = SETTINGS.model_copy(update={"architecture": "large"})


@pytest.mark.parametrize("settings", [SETTINGS, MIXING, LARGE], ids=["plain", "mixing", "large"])
def test_the_same_training_gives_the_same_file_where_images_are_read_from_one_too(
    images: np.ndarray, labels: np.ndarray, settings: TrainNN, tmp_path: Path
) -> None:
    short = settings.model_copy(update={"max_steps": 32})
    rows = np.arange(0, 1536, 3)
    labelled = LabelledImages(rows, labels[rows])
    np.save(tmp_path / "images.npy", images)
    stored = Stored.of(np.load(tmp_path / "images.npy", mmap_mode="r"))
    pools: dict[str, Rows] = {"one.keras": images, "other.keras": stored}
    for name, pool in pools.items():
        network, _ = train_until_alive(pool, labelled, 10, short, seed=3, history=tmp_path / name[:-6])
        save_reproducibly(network, tmp_path / name)
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "other.keras").read_bytes()
    loaded = keras.models.load_model(tmp_path / "one.keras")
    np.testing.assert_array_equal(loaded.predict(images[:50], verbose=0), network.predict(images[:50], verbose=0))

    np.testing.assert_array_equal(score(network, stored), score(network, images))
    kept, _ = activate(network, stored, tmp_path / "activations.npy")
    assert isinstance(kept, Stored)
    np.testing.assert_array_equal(kept[:], activate(network, images)[0])


def test_the_file_serves_a_keras_user(small_run: Clone) -> None:
    model = keras.models.load_model(small_run.path / "models" / "nn.keras")
    images = to_unit_range(np.load(small_run.path / "data" / "test_images.npy"))
    assert model.predict(images, verbose=0).shape == (len(images), 10)
