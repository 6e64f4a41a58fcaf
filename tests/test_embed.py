"""The learned embedding sees no label, repeats itself, and tells more than pixels do."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from few_labels import embedding as module
from few_labels.embedding import (
    Pixels,
    VisualWords,
    describe,
    fit_patches,
    learn_words,
    normalise,
    sum_gradients,
)
from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors, to_unit_range
from few_labels.logistic_regression import train
from tests.conftest import Clone

N_REGIONS = 3


@pytest.fixture(scope="module")
def images(small_run: Clone) -> np.ndarray:
    return np.load(small_run.path / "data" / "train_images.npy")


def test_pixels_are_the_images_as_they_are(small_run: Clone) -> None:
    for part in ("train", "test"):
        folder = small_run.path / "data"
        assert (folder / f"{part}_embedding.npy").read_bytes() == (folder / f"{part}_images.npy").read_bytes()


def test_a_patch_is_normalised_to_brightness_0_and_contrast_1(images: np.ndarray) -> None:
    patches = to_unit_range(images[:50, None, 10:17, 10:17, 0])
    rows = normalise(patches)
    assert rows.shape == (50, 49)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
    variance = patches.var(axis=(1, 2, 3))
    np.testing.assert_allclose(rows.var(axis=1), variance / (variance + 0.01), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(normalise(np.full((1, 1, 7, 7), 0.35, np.float32)), 0, atol=1e-5)


def test_an_image_is_described_as_the_definition_says(images: np.ndarray) -> None:
    words = learn_words(images, n_words=8, patch_size=7, seed=0)
    described = describe(images[:3], words, N_REGIONS, np.float32(0))
    edges = [0, 7, 15, 22]
    for image, row in zip(images[:3], described.reshape(3, N_REGIONS, N_REGIONS, 8), strict=True):
        for top in range(N_REGIONS):
            for left in range(N_REGIONS):
                total = np.zeros(8)
                for y in range(edges[top], edges[top + 1]):
                    for x in range(edges[left], edges[left + 1]):
                        seen = to_unit_range(image[None, y : y + 7, x : x + 7, 0])
                        patch = (normalise(seen) - words.mean) @ words.whitening
                        distance = np.linalg.norm(words.words - patch, axis=1)
                        total += np.maximum(distance.mean() - distance, 0)
                np.testing.assert_allclose(row[top, left], np.sqrt(total * (N_REGIONS / 22) ** 2), atol=2e-3)


def test_the_embedding_spreads_as_widely_as_the_pixels(recipe_run: Clone) -> None:
    embedding = np.load(recipe_run.path / "data" / "train_embedding.npy")
    pixels = to_pixel_vectors(np.load(recipe_run.path / "data" / "train_images.npy"))
    assert embedding.dtype == np.float32
    assert embedding.shape == (1000, 30)
    assert embedding.var(axis=0).sum() == pytest.approx(pixels.var(axis=0).sum(), rel=0.01)
    assert np.load(recipe_run.path / "data" / "test_embedding.npy").shape[1] == 30


def test_the_test_images_teach_the_embedding_nothing(recipe_run: Clone, tmp_path: Path) -> None:
    """With other test images the pool is embedded as before, and so are those that it shares with the test set."""
    clone = recipe_run.copy_to(tmp_path / "clone")
    data = clone.path / "data"
    before = {path: path.read_bytes() for path in (data / "train_embedding.npy", clone.path / "models/embedder.joblib")}
    np.save(data / "others.npy", np.load(data / "train_images.npy")[:100])

    command = clone.lock()["stages"]["embed"]["cmd"]
    clone.call("sh", "-c", command.replace("data/test_images.npy", "data/others.npy"))

    assert {path: path.read_bytes() for path in before} == before
    embedding = np.load(data / "train_embedding.npy")
    np.testing.assert_allclose(np.load(data / "test_embedding.npy"), embedding[:100], atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 12, 20, 1), (40, 16, 16, 3)], ids=["not square", "colour"])
def test_images_of_any_shape_are_embedded(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "N_SAMPLED_PATCHES", 5000)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    embedder, embedding = fit_patches(
        images, n_words=4, patch_size=5, n_regions=2, gradient_weight=0.5, n_components=8, seed=0
    )
    assert embedding is not None
    assert embedding.shape == (40, 8)
    np.testing.assert_allclose(embedder.transform(images[:3]), embedding[:3], atol=1e-4)
    assert embedder.transform(images[:0]).shape == (0, 8)


@pytest.mark.parametrize(("patch_size", "n_regions"), [(13, 1), (12, 2), (6, 8)])
def test_a_patch_has_to_fit_as_often_as_there_are_regions(patch_size: int, n_regions: int) -> None:
    images = np.zeros((40, 12, 20, 1), np.uint8)
    with pytest.raises(InputError, match=f"patch_size is {patch_size} and n_regions {n_regions}: an image of 12 x 20"):
        fit_patches(
            images, n_words=4, patch_size=patch_size, n_regions=n_regions, gradient_weight=0.5, n_components=8, seed=0
        )


def test_it_tells_more_than_pixels_do(small_run: Clone, images: np.ndarray) -> None:
    labels = np.load(small_run.path / "data" / "train_labels.npy")
    described = describe(images, learn_words(images, n_words=100, patch_size=7, seed=0), N_REGIONS, np.float32(0))
    pixels = to_pixel_vectors(images)
    embedding = PCA(200, svd_solver="covariance_eigh").fit_transform(described)
    embedding *= np.sqrt(pixels.var(axis=0).sum() / embedding.var(axis=0).sum())
    accuracy = [
        train(X[:500], labels[:500], C=0.3, max_iter=100).score(X[500:], labels[500:]) for X in (pixels, embedding)
    ]
    assert accuracy[1] > accuracy[0] + 0.01


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    """Seventy images in colour that are not square."""
    return np.random.default_rng(0).integers(0, 256, (70, 9, 12, 3), np.uint8)


def cut(image: NDArray[np.uint8], y: int, x: int, side: int) -> NDArray[np.float64]:
    """Cut out a patch, channel by channel, and normalise it by the definition."""
    patch = image[y : y + side, x : x + side].transpose(2, 0, 1).ravel() / 255
    return (patch - patch.mean()) / np.sqrt(patch.var() + 0.01)


def test_pixels_give_the_images_themselves(noise: NDArray[np.uint8]) -> None:
    assert Pixels().transform(noise) is noise


def test_words_are_centroids_of_whitened_patches_of_random_places(
    noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "N_SAMPLED_PATCHES", 2000)
    words = learn_words(noise, n_words=3, patch_size=4, seed=5)
    rng = np.random.default_rng(5)
    places = zip(*(rng.integers(n, size=2000) for n in (70, 6, 9)), strict=True)
    patches = np.array([cut(noise[i], y, x, side=4) for i, y, x in places])
    variances, directions = np.linalg.eigh(np.cov(patches, rowvar=False))
    whitening = directions / np.sqrt(variances + 0.1) @ directions.T
    whitened = (patches - patches.mean(axis=0)) @ whitening
    assert words.patch_size == 4
    np.testing.assert_allclose(words.mean, patches.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(words.whitening, whitening, atol=1e-3)
    start = whitened[rng.choice(2000, 3, replace=False)]
    kmeans = KMeans(3, init=start, n_init=1, max_iter=25, tol=0).fit(whitened)
    np.testing.assert_allclose(words.words, kmeans.cluster_centers_, atol=1e-2)
    nearest = np.linalg.norm(whitened[:, None] - words.words, axis=2).argmin(axis=1)
    for word in range(3):
        np.testing.assert_allclose(words.words[word], whitened[nearest == word].mean(axis=0), atol=0.1)
    assert {array.dtype for array in (words.mean, words.whitening, words.words)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("n_regions", [1, 3])
def test_an_image_in_colour_is_described_as_the_definition_says(noise: NDArray[np.uint8], n_regions: int) -> None:
    rng = np.random.default_rng(1)
    mean, whitening, centroids = np.split(rng.normal(size=(32, 27)).astype(np.float32), [1, 28])
    mean = mean[0]
    described = describe(noise, VisualWords(3, mean, whitening, centroids), n_regions, np.float32(0))
    assert described.shape == (70, n_regions**2 * 4)
    assert described.dtype == np.float32
    down, across = ([round(i * n / n_regions) for i in range(n_regions + 1)] for n in (7, 10))
    for row in (0, 1, 63, 64, 69):
        total = np.zeros((n_regions, n_regions, 4))
        for y in range(7):
            for x in range(10):
                distance = np.linalg.norm(centroids - (cut(noise[row], y, x, side=3) - mean) @ whitening, axis=1)
                region = np.searchsorted(down, y, side="right") - 1, np.searchsorted(across, x, side="right") - 1
                total[region] += np.maximum(distance.mean() - distance, 0)
        expected = np.sqrt(total * n_regions**2 / 70)
        np.testing.assert_allclose(described[row], expected.ravel(), rtol=1e-3, atol=1e-3)


def test_gradients_are_summed_by_cell_and_direction(noise: NDArray[np.uint8]) -> None:
    pixels = to_unit_range(noise[:2])
    height, width = pixels.shape[1:3]
    expected = np.zeros((2, 7, 7, 12))
    for image, y, x, channel in np.ndindex(pixels.shape):
        plane = pixels[image, :, :, channel].astype(np.float64)
        dy = plane[min(y + 1, height - 1), x] - plane[max(y - 1, 0), x]
        dx = plane[y, min(x + 1, width - 1)] - plane[y, max(x - 1, 0)]
        for down, across, direction in np.ndindex(7, 7, 12):
            far = abs((y + 0.5) * 7 / height - (down + 0.5)), abs((x + 0.5) * 7 / width - (across + 0.5))
            off = np.arctan2(dy, dx) - 2 * np.pi * direction / 12
            vote = np.hypot(dy, dx) * max(0, np.cos(off) - np.cos(np.pi / 6))
            expected[image, down, across, direction] += max(0, 1 - far[0]) * max(0, 1 - far[1]) * vote
    np.testing.assert_allclose(sum_gradients(pixels), np.sqrt(expected).reshape(2, -1), atol=1e-3)


def test_an_edge_counts_for_its_direction_alone() -> None:
    steps = np.zeros((4, 28, 28, 1), np.float32)
    steps[0, :, 14:] = 1
    steps[1, 14:] = 1
    steps[2, :, :14] = 1
    found = sum_gradients(steps).reshape(4, -1, 12).sum(axis=1)
    assert [np.flatnonzero(row > 1e-3).tolist() for row in found] == [[0], [3], [6], []]


def test_gradients_have_their_weight_beside_the_words(images: np.ndarray) -> None:
    """As wide as asked for, by standard deviations; the rest of what is described stays as it was."""
    how = {"n_words": 10, "patch_size": 7, "n_regions": 2, "n_components": 5, "seed": 0}
    plain, weighed = (fit_patches(images, gradient_weight=weight, **how)[0] for weight in (0, 0.5))
    assert plain.gradient_scale == 0
    described = describe(images, weighed.words, 2, weighed.gradient_scale)
    assert described.shape == (len(images), 4 * 10 + 49 * 12)
    np.testing.assert_array_equal(described[:, :40], describe(images, plain.words, 2, np.float32(0)))
    words, gradients = (part.var(axis=0).sum() for part in np.split(described, [40], axis=1))
    assert np.sqrt(gradients / words) == pytest.approx(0.5, rel=0.05)


def test_images_without_any_edge_have_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "N_SAMPLED_PATCHES", 500)
    flat = np.full((30, 12, 12, 1), 200, np.uint8)
    embedder, embedding = fit_patches(
        flat, n_words=2, patch_size=4, n_regions=2, gradient_weight=0.5, n_components=3, seed=0
    )
    assert embedder.gradient_scale == 0
    assert embedding is not None
    np.testing.assert_array_equal(embedding, np.zeros((30, 3)))


@pytest.mark.parametrize(("n_components", "n_sampled", "n_kept"), [(5, 70, 5), (1000, 70, 16), (1000, 12, 12)])
def test_the_embedding_is_the_components_of_the_descriptions_of_a_sample(
    noise: NDArray[np.uint8],
    n_components: int,
    n_sampled: int,
    n_kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "N_SAMPLED_PATCHES", 500)
    monkeypatch.setattr(module, "N_SAMPLED_IMAGES", n_sampled)
    embedder, embedding = fit_patches(
        noise, n_words=4, patch_size=4, n_regions=2, gradient_weight=0, n_components=n_components, seed=5
    )
    assert embedding is not None
    words = learn_words(noise, n_words=4, patch_size=4, seed=5)
    np.testing.assert_allclose(embedder.words.words, words.words, atol=1e-5)
    described = describe(noise, words, 2, np.float32(0))
    sample = np.random.default_rng(5).permutation(70)[:n_sampled]
    components = PCA(n_kept).fit(described[sample])
    spread = to_pixel_vectors(noise[sample]).var(axis=0).sum() / components.explained_variance_.sum()
    assert embedder.scale == pytest.approx(np.sqrt(spread), rel=1e-3)
    assert embedding.shape == (70, n_kept)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedder.transform(noise), embedding, atol=1e-4)
    expected = embedder.scale * components.transform(described)
    for dimension in range(min(n_kept, 5)):
        sign = np.sign(expected[:, dimension] @ embedding[:, dimension])
        np.testing.assert_allclose(sign * embedding[:, dimension], expected[:, dimension], atol=0.05)
    nothing = embedder.transform(noise[:0])
    assert (nothing.shape, nothing.dtype) == ((0, n_kept), np.float32)


def test_places_for_a_patch_are_counted(noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "N_SAMPLED_PATCHES", 200)
    for patch_size, n_regions, n_places in [(11, 1, 0), (9, 2, 1), (6, 5, 4)]:
        said = (
            f"^patch_size is {patch_size} and n_regions {n_regions}: an image of 9 x 12 has {n_places} places for a "
            "patch along a side, allowed are as many regions at most$"
        )
        with pytest.raises(InputError, match=said):
            fit_patches(
                noise,
                n_words=2,
                patch_size=patch_size,
                n_regions=n_regions,
                gradient_weight=0.5,
                n_components=2,
                seed=0,
            )
    for patch_size, n_regions in [(9, 1), (6, 4)]:
        fit_patches(
            noise, n_words=2, patch_size=patch_size, n_regions=n_regions, gradient_weight=0.5, n_components=2, seed=0
        )
