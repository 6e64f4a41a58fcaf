"""Logistic regression on all 60,000 labels and the pixels; quality is the accuracy on the test images."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from benchmarks.common import Measurement, System, load, load_pixels, params
from few_labels.artifacts import LabelledImages
from few_labels.logistic_regression import train_on

Fit = Callable[[NDArray[np.float32], NDArray], ClassifierMixin]


def ours(X: NDArray[np.float32], y: NDArray) -> ClassifierMixin:
    """Train as the train-logreg stage does."""
    labelled = LabelledImages(np.arange(len(y)), y)
    return train_on(X, labelled, **params()["train_logreg"], seed=params()["seed"])


def published(X: NDArray[np.float32], y: NDArray) -> ClassifierMixin:
    """Train as the published study did: one against the rest, by SAGA."""
    return OneVsRestClassifier(LogisticRegression(solver="saga", max_iter=5000, random_state=params()["seed"])).fit(
        X, y
    )


def scikit_learn(X: NDArray[np.float32], y: NDArray) -> ClassifierMixin:
    """Train with scikit-learn's defaults, which are L-BFGS and 100 iterations."""
    return LogisticRegression().fit(X, y)


def measure(fit: Fit) -> Measurement:
    """Time one fit."""
    X, y = load_pixels("train"), load("train_labels")
    measurement = Measurement()
    with measurement.clock():
        classifier = fit(X, y)
    measurement.quality = f"{classifier.score(load_pixels('test'), load('test_labels')):.4f}"
    return measurement


SYSTEMS = [
    System("logreg", "ours", partial(measure, ours)),
    System("logreg", "one-vs-rest SAGA as published", partial(measure, published), cap=600),
    System("logreg", "scikit-learn lbfgs", partial(measure, scikit_learn)),
]
