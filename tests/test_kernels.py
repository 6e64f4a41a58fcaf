"""Neither the number of processors nor the caller's environment decides a byte."""

import os
import subprocess
import sys

import pytest

from few_labels.kernels import PINNED, PINNED_ON_X86, UNSET
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
from stages.train_nn import build, keras

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2000, 28, 28, 1), np.uint8)
X = images.reshape(2000, -1).astype(np.float32) / 255
y = np.arange(2000, dtype=np.uint8) % 10
kmeans = fit_kmeans(X, 100, n_components=16, n_iter_components=4, n_iter_pixels=2, seed=0)
_, embedding = fit_patches(images, n_words=20, patch_size=7, n_regions=3, n_components=30, seed=0)
graph = join_neighbours(embedding, 15)
classifier = train(X, y, C=0.3, max_iter=20, seed=0)
keras.utils.set_random_seed(0)
network = build("compact", (28, 28, 1), 10)
network.compile("adam", "sparse_categorical_crossentropy")
network.fit(X.reshape(-1, 28, 28, 1), y, batch_size=256, epochs=1, verbose=0)
for array in [kmeans.cluster_centers_, kmeans.labels_, embedding, graph.data, classifier.coef_, np.exp(X),
              *network.get_weights()]:
    print(hashlib.md5(np.ascontiguousarray(array)).hexdigest())
"""
# What a process does first, and the variables that it starts with.
ELSEWHERE = {
    "one processor": ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", {}),
    # joblib brings NumPy, which has to find its kernels pinned.
    "four threads": ("import stages, joblib; joblib.cpu_count = lambda: 4", {}),
    "another environment": (
        "",
        dict.fromkeys([*PINNED, *UNSET], "4")
        | {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "SSE41", "FAISS_SIMD_LEVEL": "NONE"}
        | {"NPY_DISABLE_CPU_FEATURES": "", "NPY_ENABLE_CPU_FEATURES": "AVX2"},
    ),
}


@pytest.fixture(scope="module")
def as_it_is() -> str:
    return run(SUMS, {})


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_result_is_the_same_bytes(as_it_is: str, where: str) -> None:
    first, variables = ELSEWHERE[where]
    assert run(f"{first}\n{SUMS}", variables) == as_it_is
    assert len(as_it_is.split()) == 14


def test_numpy_that_came_first_is_said() -> None:
    assert (
        "NumPy was imported before its kernels were pinned: import stages first" in start("import numpy, stages").stderr
    )


def run(script: str, variables: dict[str, str]) -> str:
    done = start(script, variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(script: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment that pins nothing, but for the given variables."""
    pinned = PINNED | PINNED_ON_X86
    environment = {name: value for name, value in os.environ.items() if name not in pinned} | (variables or {})
    return subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
