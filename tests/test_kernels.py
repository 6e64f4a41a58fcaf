"""Neither the number of processors nor the caller's environment decides a byte."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from few_labels.kernels import PINNED, PINNED_ON_X86, UNSET
from tests.conftest import PROJECT

EMULATOR = shutil.which("qemu-x86_64")
# One process, which runs what sums, on as many images as its argument says: k-means, components, the graph and logistic
# regression.
SUMS = """
import stages, hashlib, sys
import numpy as np
from few_labels import embedding as embedders
from few_labels.artifacts import LabelledImages
from few_labels.graph import join_neighbours
from few_labels.logistic_regression import train, train_on
from stages.kmeans import fit_kmeans

n = int(sys.argv[1])
# As many as ever from 2,000 images; from few it would be most of an emulated processor's time.
embedders.N_SAMPLED_PATCHES = 100 * n
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (n, 28, 28, 1), np.uint8)
X = images.reshape(n, -1).astype(np.float32) / 255
y = np.arange(n, dtype=np.uint8) % 10
kmeans = fit_kmeans(X, n // 20, n_components=16, n_iter_components=4, n_iter_pixels=2, seed=0)
settings = dict(n_words=20, patch_size=7, n_regions=3, gradient_weight=0.5, n_components=30)
_, embedding = embedders.fit_patches(images, **settings, seed=0)
graph = join_neighbours(embedding, 15)
classifier = train(X, y, C=0.3, max_iter=20, seed=0)
labelled = LabelledImages(np.arange(0, n, 2), y[::2])
curved = train_on(embedding, labelled, kernel="rational-quadratic", C=100, max_iter=20)

def show(*arrays):
    for array in arrays:
        print(hashlib.md5(np.ascontiguousarray(array)).hexdigest())

show(kmeans.cluster_centers_, kmeans.labels_, embedding, graph.data, classifier.coef_, curved[-1].coef_, np.exp(X))
"""
# An epoch of a network beside them.
WITH_A_NETWORK = f"""{SUMS}
from few_labels.network import build, keras
keras.utils.set_random_seed(0)
network = build("large", (28, 28, 1), 10)
network.compile("adam", "sparse_categorical_crossentropy")
network.fit(X.reshape(-1, 28, 28, 1), y, batch_size=256, epochs=1, verbose=0)
show(*network.get_weights())
"""
# Two steps of the recipe's network beside them, and its answers, as TensorFlow's graph optimiser has them computed: an
# epoch would take minutes where a processor is emulated.
WITH_STEPS_OF_A_NETWORK = f"""{SUMS}
from few_labels.network import build, keras, tf
X, y = tf.constant(X[:8].reshape(-1, 28, 28, 1)), tf.one_hot(np.arange(8), 10)
keras.utils.set_random_seed(0)
network = build("large", (28, 28, 1), 10)
optimizer = keras.optimizers.Adam(0.002)
optimizer.build(network.trainable_variables)

@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = keras.losses.categorical_crossentropy(y, network(X, training=True))
    optimizer.apply(tape.gradient(loss, network.trainable_variables))

for _ in range(2):
    step()
answer = tf.function(lambda X: network(X, training=False))
show(*network.get_weights(), answer(X).numpy())
"""
# What a process does first, and the variables that it starts with.
ELSEWHERE = {
    # joblib brings NumPy, which has to find its kernels pinned.
    "four threads": ("import stages, joblib; joblib.cpu_count = lambda: 4", {}),
    "one processor, another environment": (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        dict.fromkeys([*PINNED, *UNSET], "4")
        | {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "SSE41", "FAISS_SIMD_LEVEL": "NONE"}
        | {"NPY_DISABLE_CPU_FEATURES": "", "NPY_ENABLE_CPU_FEATURES": "AVX2"},
    ),
}


@pytest.fixture(scope="module")
def as_it_is() -> str:
    return run(WITH_A_NETWORK, {})


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_result_is_the_same_bytes(as_it_is: str, where: str) -> None:
    first, variables = ELSEWHERE[where]
    assert run(f"{first}\n{WITH_A_NETWORK}", variables) == as_it_is
    assert len(as_it_is.split()) == 7 + 16


@pytest.mark.skipif(not EMULATOR, reason="qemu-user is not installed")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels are pinned for x86-64")
def test_another_processor_gives_the_same_bytes_as_far_as_one_can_be_emulated() -> None:
    here = run(WITH_STEPS_OF_A_NETWORK, {}, "80")
    assert len(here.split()) == 7 + 17
    # An Intel processor of 2013, the oldest that has AVX2, and none of what came after it.
    assert run(WITH_STEPS_OF_A_NETWORK, {}, "80", EMULATOR or "", "-cpu", "Haswell") == here


def test_numpy_that_came_first_is_said() -> None:
    assert (
        "NumPy was imported before its kernels were pinned: import stages first" in start("import numpy, stages").stderr
    )


def run(script: str, variables: dict[str, str], n_images: str = "2000", *emulator: str) -> str:
    done = start(script, variables, n_images, *emulator)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(
    script: str, variables: dict[str, str] | None = None, n_images: str = "2000", *emulator: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment that pins nothing, but for the given variables."""
    pinned = PINNED | PINNED_ON_X86
    environment = {name: value for name, value in os.environ.items() if name not in pinned} | (variables or {})
    return subprocess.run(
        [*emulator, sys.executable, "-c", script, n_images],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
