"""Give published methods for few labels what the recipe has, and grade them on the test set.

Those that learn from labels and from images without get the labels that the recipe bought; those that choose what to
ask about buy as many of their own. Each works in the space that the recipe learned, with its authors' settings; the
graphs have as many neighbours as ours.
"""

from collections.abc import Callable
from pathlib import Path

import graphlearning
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skactiveml.pool import TypiClust, uncertainty_scores
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from few_labels.artifacts import LabelledImages, load_classes
from few_labels.class_prior import resolve_prior
from few_labels.graph import find_nearest
from few_labels.logistic_regression import score, train_on
from few_labels.parameters import AllParameters, TrainLogreg

N_NEIGHBOURS = 15
UNLABELLED = -1
# Typical images are asked about in the first, those with the smallest margins in the others.
N_ROUNDS = 5


def grade_run(data: Path, parameters: AllParameters) -> dict[str, float]:
    """Grade the peers on what the pipeline bought, and on as many labels of their own choice.

    Parameters
    ----------
    data : Path
        The folder that the pipeline wrote to.
    parameters : AllParameters
        By which it did.

    Returns
    -------
    dict
        As `grade_peers` and `grade_queries` give it.
    """
    X, test, known, actual = (
        np.load(data / f"{name}.npy") for name in ("train_embedding", "test_embedding", "train_labels", "test_labels")
    )
    bought = pd.read_csv(data / "bought_labels.csv")
    index, label = bought["index"].to_numpy(), bought["label"].to_numpy()
    class_names = load_classes(data / "classes.json").class_names
    prior = resolve_prior(parameters.propagate.class_prior, class_names)
    if prior is None:
        prior = np.bincount(label, minlength=len(class_names)) / len(label)
    spread = grade_peers(X, test, index, label, actual, prior)
    return spread | grade_queries(X, test, known, actual, len(index), parameters.train_logreg, parameters.seed)


def grade_peers(
    X: NDArray[np.float32],
    test: NDArray[np.float32],
    index: NDArray,
    label: NDArray,
    actual: NDArray[np.integer],
    prior: NDArray[np.float64],
) -> dict[str, float]:
    """Give the test accuracy of methods that get bought labels, and see the test images without theirs.

    Parameters
    ----------
    X, test : ndarray of shape (n_images, n_features), float32
    index, label : ndarray of shape (n_bought,)
        Bought rows of ``X``, and their classes.
    actual : ndarray of shape (n_test,), integer
    prior : ndarray of shape (n_classes,), float64, in 0-1
        What is known of the share of each class, which Poisson MBO holds to.

    Returns
    -------
    dict
        Accuracy in 0-1 by method.
    """
    everything = np.concatenate([X, test])
    known = np.full(len(everything), UNLABELLED)
    known[index] = label
    graph = graphlearning.weightmatrix.knn(everything, N_NEIGHBOURS, knn_data=find_neighbours(everything))
    # GraphLearning wants classes without gaps, and among few labels some class may have none.
    classes, bought_class = np.unique(label, return_inverse=True)

    def follow(method: graphlearning.ssl.ssl) -> NDArray:
        return classes[method.fit_predict(index, bought_class)[len(X) :]]

    # As its paper solves it. The package's default goes on to the exact solution, which is far worse here.
    descent = {"solver": "gradient_descent"}
    answers: dict[str, Callable[[], NDArray]] = {
        "LabelSpreading": lambda: (
            LabelSpreading(kernel="knn", n_neighbors=N_NEIGHBOURS).fit(everything, known).transduction_[len(X) :]
        ),
        "SelfTrainingClassifier": lambda: (
            SelfTrainingClassifier(LogisticRegression(max_iter=1000)).fit(X, known[: len(X)]).predict(test)
        ),
        "laplace": lambda: follow(graphlearning.ssl.laplace(graph)),
        "poisson": lambda: follow(graphlearning.ssl.poisson(graph, **descent)),
        "poisson_mbo": lambda: follow(graphlearning.ssl.poisson_mbo(graph, prior[classes], **descent)),
    }
    return {name: round(float((answer() == actual).mean()), 6) for name, answer in answers.items()}


def grade_queries(
    X: NDArray[np.float32],
    test: NDArray[np.float32],
    known: NDArray[np.integer],
    actual: NDArray[np.integer],
    n_labels: int,
    train_logreg: TrainLogreg,
    seed: int,
) -> dict[str, float]:
    """Give the test accuracy of the recipe's logistic regression on labels that scikit-activeml chose.

    Parameters
    ----------
    X, test : ndarray of shape (n_images, n_features), float32
    known, actual : ndarray of shape (n_images,), integer
        The classes of ``X``, of which as many as are bought are read, and of ``test``.
    n_labels : int
    train_logreg : TrainLogreg
        Of the classifier.
    seed : int

    Returns
    -------
    dict
        Accuracy in 0-1 by strategy: TypiClust, and TypiClust for a fifth of the budget with margin sampling after it.
    """

    def score_by(index: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        labelled = LabelledImages(index, known[index].astype(np.uint8), np.ones(len(index), np.float32))
        return score(train_on(X, labelled, **train_logreg.model_dump()), rows, int(known.max()) + 1)

    def ask_typical(n_wanted: int) -> NDArray[np.int64]:
        return TypiClust(random_state=seed).query(X, np.full(len(X), np.nan), batch_size=n_wanted)

    asked = ask_typical(n_labels // N_ROUNDS)
    for round_ in range(2, N_ROUNDS + 1):
        doubt = uncertainty_scores(score_by(asked, X), method="margin_sampling")
        doubt[asked] = -np.inf
        most_doubtful = np.argsort(-doubt, kind="stable")
        asked = np.concatenate([asked, most_doubtful[: n_labels * round_ // N_ROUNDS - len(asked)]])
    return {
        strategy: round(float((score_by(index, test).argmax(axis=1) == actual).mean()), 6)
        for strategy, index in {"typiclust": ask_typical(n_labels), "typiclust_and_margins": asked}.items()
    }


def find_neighbours(X: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give each row its nearest ones, itself the first, and their distances, as GraphLearning takes them.

    Its own search is approximate, and needs a package that has to be compiled.
    """
    squared, neighbour = find_nearest(X, N_NEIGHBOURS + 1)
    return neighbour, np.sqrt(np.maximum(squared, 0))
