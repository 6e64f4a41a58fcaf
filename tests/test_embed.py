"""The learned embedding sees no label, repeats itself, and tells more than pixels do."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from few_labels.embedding import describe, fit_patches, learn_words, normalise
from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors
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
    patches = images[:50, None, 10:17, 10:17, 0]
    rows = normalise(patches)
    assert rows.shape == (50, 49)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
    variance = (patches / 255).var(axis=(1, 2, 3))
    np.testing.assert_allclose(rows.var(axis=1), variance / (variance + 0.01), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(normalise(np.full((1, 1, 7, 7), 90, np.uint8)), 0, atol=1e-5)


def test_an_image_is_described_as_the_definition_says(images: np.ndarray) -> None:
    words = learn_words(images, n_words=8, patch_size=7, seed=0)
    described = describe(images[:3], words, N_REGIONS)
    edges = [0, 7, 15, 22]
    for image, row in zip(images[:3], described.reshape(3, N_REGIONS, N_REGIONS, 8), strict=True):
        for top in range(N_REGIONS):
            for left in range(N_REGIONS):
                total = np.zeros(8)
                for y in range(edges[top], edges[top + 1]):
                    for x in range(edges[left], edges[left + 1]):
                        patch = (normalise(image[None, y : y + 7, x : x + 7, 0]) - words.mean) @ words.whitening
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


@pytest.mark.parametrize("shape", [(40, 12, 20, 1), (40, 16, 16, 3)], ids=["not square", "colour"])
def test_images_of_any_shape_are_embedded(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    embedder, embedding = fit_patches(images, n_words=4, patch_size=5, n_regions=2, n_components=8, seed=0)
    assert embedding.shape == (40, 8)
    np.testing.assert_allclose(embedder.transform(images[:3]), embedding[:3], atol=1e-4)
    assert embedder.transform(images[:0]).shape == (0, 8)


@pytest.mark.parametrize(("patch_size", "n_regions"), [(13, 1), (12, 2), (6, 8)])
def test_a_patch_has_to_fit_as_often_as_there_are_regions(patch_size: int, n_regions: int) -> None:
    images = np.zeros((40, 12, 20, 1), np.uint8)
    with pytest.raises(InputError, match=f"patch_size is {patch_size} and n_regions {n_regions}: an image of 12 x 20"):
        fit_patches(images, n_words=4, patch_size=patch_size, n_regions=n_regions, n_components=8, seed=0)


def test_it_tells_more_than_pixels_do(small_run: Clone, images: np.ndarray) -> None:
    labels = np.load(small_run.path / "data" / "train_labels.npy")
    described = describe(images, learn_words(images, n_words=100, patch_size=7, seed=0), N_REGIONS)
    pixels = to_pixel_vectors(images)
    embedding = PCA(200, svd_solver="covariance_eigh").fit_transform(described)
    embedding *= np.sqrt(pixels.var(axis=0).sum() / embedding.var(axis=0).sum())
    accuracy = [
        train(X[:500], labels[:500], C=0.3, max_iter=100).score(X[500:], labels[500:]) for X in (pixels, embedding)
    ]
    assert accuracy[1] > accuracy[0] + 0.01
