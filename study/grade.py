"""Grade the models that one training set made: the metrics of the pipeline's evaluate stage, and what they took."""

import json
from pathlib import Path
from typing import Annotated, Any

import joblib
import numpy as np
from typer import Option

from stages.artifacts import load_features, load_images, load_labelled, load_labels, replacing
from stages.cli import run
from stages.evaluate import grade_labels, grade_predictions, predict_with_network


def main(
    test_labels: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option(help="used to grade the spread labels and for nothing else")],
    bought: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
    logreg: Annotated[Path | None, Option(help="the fitted logistic regression")] = None,
    logreg_seconds: Annotated[Path | None, Option()] = None,
    test_features: Annotated[Path | None, Option()] = None,
    nn: Annotated[Path | None, Option(help="the trained network")] = None,
    nn_training: Annotated[Path | None, Option(help="JSON: how the network's training went")] = None,
    nn_seconds: Annotated[Path | None, Option()] = None,
    test_images: Annotated[Path | None, Option()] = None,
) -> None:
    actual = np.array(load_labels(test_labels))
    true_labels = np.array(load_labels(train_labels))
    grades: dict[str, Any] = grade_labels(
        load_labelled(bought, len(true_labels)), load_labelled(training_set, len(true_labels)), true_labels
    )
    if logreg and logreg_seconds and test_features:
        answers = joblib.load(logreg).predict(load_features(test_features))
        grades["logreg"] = grade_predictions(actual, answers) | json.loads(logreg_seconds.read_text())
    if nn and nn_training and nn_seconds and test_images:
        answers = predict_with_network(nn, load_images(test_images))
        grades["nn"] = (
            grade_predictions(actual, answers)
            | json.loads(nn_training.read_text())
            | json.loads(nn_seconds.read_text())
        )
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
