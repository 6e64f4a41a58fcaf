"""Give published methods for few labels the same bought labels, in the same space, and grade them on the test set.

Each sees the embedding of all images, those of the test set without labels, and runs with its authors' settings; the
graphs have as many neighbours as ours. The recipe's runs buy the labels.
"""

from collections.abc import Callable
from pathlib import Path

import graphlearning
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from few_labels.graph import find_nearest

N_NEIGHBOURS = 15
UNLABELLED = -1


def grade_run(data: Path) -> dict[str, float]:
    """Grade the peers on what the pipeline bought.

    Parameters
    ----------
    data : Path
        The folder that it was written to.

    Returns
    -------
    dict
        As `grade_peers` gives it.
    """
    X, test, actual = (np.load(data / f"{name}.npy") for name in ("train_embedding", "test_embedding", "test_labels"))
    bought = pd.read_csv(data / "bought_labels.csv")
    return grade_peers(X, test, bought["index"].to_numpy(), bought["label"].to_numpy(), actual)


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
