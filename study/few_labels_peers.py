"""Give published methods for few labels the same bought labels, in the same space, and grade them on the test set.

Each sees the embedding of all images, those of the test set without labels, and runs with its authors' settings; the
graphs have as many neighbours as ours. Accuracies go to ``study/few_labels/peers/<labels>_<seed>.json``.
"""

import io
import json
from collections.abc import Callable
from typing import Annotated

import dvc.api
import graphlearning
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import replacing
from few_labels.graph import find_nearest
from stages import run
from study.few_labels import PROJECT, RECIPE, RESULTS, SEEDS, experiment
from tools.recipes import at_budget, read_recipe

N_NEIGHBOURS = 15
MOST_LABELS = 10_000
UNLABELLED = -1


def main(
    labels: Annotated[list[int] | None, Option(help="a budget, or more; all without")] = None,
    seed: Annotated[list[int] | None, Option(help="a seed, or more; all without")] = None,
) -> None:
    runs = [(n_labels, of_seed) for n_labels, seeds in SEEDS.items() if n_labels <= MOST_LABELS for of_seed in seeds]
    for n_labels, of_seed in tqdm(runs, unit="run"):
        result = RESULTS / "peers" / f"{n_labels}_{of_seed}.json"
        if result.exists() or (labels and n_labels not in labels) or (seed and of_seed not in seed):
            continue
        settings = read_recipe(RECIPE) | at_budget(n_labels) | {"seed": str(of_seed)}
        with experiment(f"peers-{n_labels}-{of_seed}", settings, "select-labels") as revision:
            X, test = read_array("data/train_embedding.npy", revision), read_array("data/test_embedding.npy", revision)
            actual = read_array("data/test_labels.npy", revision)
            bought = pd.read_csv(io.StringIO(dvc.api.read("data/bought_labels.csv", repo=str(PROJECT), rev=revision)))
        grades = grade_peers(X, test, bought["index"].to_numpy(), bought["label"].to_numpy(), actual)
        with replacing(result) as temporary:
            temporary.write_text(json.dumps(grades, indent=2) + "\n")


def read_array(path: str, revision: str) -> NDArray:
    """Read an array that an experiment made."""
    return np.load(io.BytesIO(dvc.api.read(path, repo=str(PROJECT), rev=revision, mode="rb")))


def grade_peers(
    X: NDArray[np.float32], test: NDArray[np.float32], index: NDArray, label: NDArray, actual: NDArray[np.integer]
) -> dict[str, float]:
    """Give the test accuracy of each method.

    Parameters
    ----------
    X, test : ndarray of shape (n_images, n_features), float32
    index, label : ndarray of shape (n_bought,)
        Bought rows of ``X``, and their classes.
    actual : ndarray of shape (n_test,), integer

    Returns
    -------
    dict
        Accuracy in 0-1 by method.
    """
    everything = np.concatenate([X, test])
    known = np.full(len(everything), UNLABELLED)
    known[index] = label
    graph = graphlearning.weightmatrix.knn(everything, N_NEIGHBOURS, knn_data=find_neighbours(everything))
    answers: dict[str, Callable[[], NDArray]] = {
        "LabelSpreading": lambda: (
            LabelSpreading(kernel="knn", n_neighbors=N_NEIGHBOURS).fit(everything, known).transduction_[len(X) :]
        ),
        "SelfTrainingClassifier": lambda: (
            SelfTrainingClassifier(LogisticRegression(max_iter=1000)).fit(X, known[: len(X)]).predict(test)
        ),
        "laplace": lambda: graphlearning.ssl.laplace(graph).fit_predict(index, label)[len(X) :],
        # As its paper solves it. The package's default goes on to the exact solution, which is far worse here.
        "poisson": lambda: graphlearning.ssl.poisson(graph, solver="gradient_descent").fit_predict(index, label)[
            len(X) :
        ],
    }
    return {name: round(float((answer() == actual).mean()), 6) for name, answer in answers.items()}


def find_neighbours(X: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give each row its nearest ones, itself the first, and their distances, as GraphLearning takes them.

    Its own search is approximate, and needs a package that has to be compiled.
    """
    squared, neighbour = find_nearest(X, N_NEIGHBOURS + 1)
    return neighbour, np.sqrt(np.maximum(squared, 0))


if __name__ == "__main__":
    run(main)
