"""Train multinomial logistic regression on the features of the training set."""

import warnings
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from typer import Option

from stages.artifacts import load_features, load_labelled, replacing
from stages.cli import InputError, run


def main(
    features: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    C: Annotated[float, Option("--C", min=1e-6, help="inverse of the regularisation strength")],
    max_iter: Annotated[int, Option(min=1)],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    model: Annotated[Path, Option()],
) -> None:
    rows = load_features(features)
    labelled = load_labelled(training_set, n_images=len(rows))
    classifier = train(rows[labelled.index], labelled.label, C=C, max_iter=max_iter, seed=seed)
    with replacing(model) as temporary:
        joblib.dump(classifier, temporary)
    print(
        f"logistic regression on {len(labelled.index)} images, {classifier.n_iter_[0]} iterations of at most {max_iter}"
    )


def train(X: NDArray[np.float32], y: NDArray[np.uint8], *, C: float, max_iter: int, seed: int) -> LogisticRegression:
    """Fit multinomial logistic regression with an L2 penalty.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), uint8
    C : float
        Inverse of the regularisation strength, greater than 0.
    max_iter : int
        L-BFGS iterations at most. Stopping short of convergence is a choice here, not a mistake: it costs no accuracy.
    seed : int
        Passed on to scikit-learn; L-BFGS draws nothing.

    Returns
    -------
    sklearn.linear_model.LogisticRegression

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    if len(np.unique(y)) < 2:
        raise InputError(f"the training set has {len(np.unique(y))} class, allowed are 2 or more: buy more labels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, max_iter=max_iter, random_state=seed).fit(X, y)


if __name__ == "__main__":
    run(main)
