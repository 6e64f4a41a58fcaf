"""Train logistic regression as the published study did: each class against the rest, by SAGA, C = 1.

Defazio, Bach and Lacoste-Julien (2014), "SAGA: a fast incremental gradient method". With few labels the published
study stops it long before it converges, which regularises it, and its draws decide the last tenths of a percent.
"""

import warnings
from pathlib import Path
from typing import Annotated

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from threadpoolctl import threadpool_limits
from typer import Option

from few_labels.artifacts import load_classes, load_features, load_labelled, save_array
from few_labels.logistic_regression import score
from few_labels.parameters import TrainLogreg
from stages import run


def main(
    train_logreg: TrainLogreg,
    seed: int,
    features: Annotated[Path, Option()],
    classes: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_features: Annotated[Path, Option()],
    test_scores: Annotated[Path, Option(help="the probabilities of the classes for each test image")],
) -> None:
    rows, n_classes = load_features(features), len(load_classes(classes).class_names)
    labelled = load_labelled(training_set, len(rows), n_classes)
    classifier = OneVsRestClassifier(
        LogisticRegression(solver="saga", max_iter=train_logreg.max_iter, random_state=seed)
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(rows[labelled.index], labelled.label)
    save_array(test_scores, score(classifier, load_features(test_features), n_classes))
    print(f"the published logistic regression on {len(labelled.index)} images")


if __name__ == "__main__":
    run(main)
