"""Neither the number of processors nor the caller's environment decides a byte."""

import os
import subprocess
import sys

import numpy as np
import pytest

from few_labels import blocks
from few_labels.components import fit_components
from few_labels.graph import join_neighbours
from few_labels.kernels import PINNED, PINNED_ON_X86, UNSET
from few_labels.kmeans import average, iterate, seed_kmeans_plusplus
from tests.conftest import PROJECT

# One process, which runs what sums: k-means, components, the graph, logistic regression and a network.
SUMS = """
import stages, hashlib, sys
import numpy as np
from few_labels.components import fit_components
from few_labels.embedding import fit_patches
from few_labels.graph import join_neighbours
from few_labels.logistic_regression import train
from stages.kmeans import fit_kmeans
from few_labels.tensorflow_setup import keras

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2000, 28, 28, 1), np.uint8)
X = images.reshape(2000, -1).astype(np.float32) / 255
y = np.arange(2000, dtype=np.uint8) % 10
kmeans = fit_kmeans(X, 100, n_components=16, n_iter_components=4, n_iter_pixels=2, seed=0)
_, embedding = fit_patches(images, n_words=20, patch_size=7, n_regions=3, n_components=30, seed=0)
graph = join_neighbours(embedding, 15)
classifier = train(X, y, C=0.3, max_iter=20, seed=0)
keras.utils.set_random_seed(0)
layers = keras.layers
network = keras.Sequential([
    keras.Input((28, 28, 1)), layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
    layers.Conv2D(64, 3, padding="same", activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(128, activation="relu"), layers.Dropout(0.5), layers.Dense(10, activation="softmax"),
])
network.compile("adam", "sparse_categorical_crossentropy")
network.fit(X.reshape(-1, 28, 28, 1), y, batch_size=256, epochs=1, verbose=0)
for array in [kmeans.cluster_centers_, kmeans.labels_, embedding, graph.data, classifier.coef_, np.exp(X),
              *network.get_weights()]:
    print(hashlib.md5(np.ascontiguousarray(array)).hexdigest())
"""
ELSEWHERE = {
    "another environment": dict.fromkeys([*PINNED, *UNSET], "4")
    | {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "SSE41", "FAISS_SIMD_LEVEL": "NONE"}
    | {"NPY_DISABLE_CPU_FEATURES": "", "NPY_ENABLE_CPU_FEATURES": "AVX2"},
    "one processor": {},
    "four threads": {},
}


@pytest.fixture(scope="module")
def as_it_is() -> str:
    return run(SUMS)


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_result_is_the_same_bytes(as_it_is: str, where: str) -> None:
    start = {"four threads": "import joblib; joblib.cpu_count = lambda: 4\n"}.get(where, "")
    start = {"one processor": "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"}.get(where, start)
    # joblib brings NumPy, which has to find its kernels pinned.
    assert run("import stages\n" + start + SUMS, **ELSEWHERE[where]) == as_it_is
    assert len(as_it_is.split()) == 14


def run(script: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in PINNED | PINNED_ON_X86} | variables
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_numpy_that_came_first_is_said() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in PINNED | PINNED_ON_X86}
    command = [sys.executable, "-c", "import numpy, stages"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert "NumPy was imported before its kernels were pinned: import stages first" in done.stderr


def test_blocks_come_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_threads in (1, 2, 7):
        monkeypatch.setattr(blocks, "N_THREADS", n_threads)
        seen = list(blocks.map_blocks(lambda rows: (rows.start, rows.stop), 10, 3))
        assert seen == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(blocks.map_blocks(lambda rows: rows, 0, 3)) == []


def test_a_block_that_fails_ends_the_map() -> None:
    with pytest.raises(ZeroDivisionError):
        list(blocks.map_blocks(lambda rows: 1 // rows.start, 10, 3))


def test_the_seeding_prefers_rows_that_are_far_from_those_chosen() -> None:
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    X = np.repeat(centres, 50, axis=0) + np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    for seed in range(5):
        assert sorted(seed_kmeans_plusplus(X, 4, seed) // 50) == [0, 1, 2, 3]


def test_rows_that_are_all_alike_can_be_seeded() -> None:
    assert seed_kmeans_plusplus(np.ones((6, 3), np.float32), 4, 0).shape == (4,)


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    X = np.array([[0, 0], [1, 0], [0, 1], [30, 30]], np.float32)
    moved = iterate(X, np.array([[0, 0], [-500, -500]], np.float32), 1)
    np.testing.assert_array_equal(moved[1], X[3])


def test_a_cluster_is_averaged_over_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).random((300, 5), np.float32)
    cluster = np.random.default_rng(1).integers(0, 90, 300)
    means, sizes = average(X, cluster, 100)
    for each in range(100):
        expected = X[cluster == each].mean(axis=0) if sizes[each] else np.zeros(5)
        np.testing.assert_allclose(means[each], expected, rtol=1e-5, atol=1e-7)
    assert sizes.tolist() == np.bincount(cluster, minlength=100).tolist()


def test_blocks_join_the_neighbours_of_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    X = fit_components(np.random.default_rng(0).random((500, 20), np.float32), 8).directions
    X = np.random.default_rng(0).random((500, 8), np.float32) @ X
    whole = join_neighbours(X, 5)
    monkeypatch.setattr("few_labels.graph.ROWS_AT_ONCE", 90)
    parts = join_neighbours(X, 5)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    np.testing.assert_allclose(whole.data, parts.data, rtol=1e-4)
