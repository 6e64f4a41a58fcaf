"""Grade the models that one training set made: the metrics of the pipeline's evaluate stage, and what they took."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typer import Option

from few_labels.artifacts import load_labelled, load_labels, load_scores, replacing
from stages import run
from stages.evaluate import grade_labels, grade_predictions


def main(
    test_labels: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option(help="used to grade the spread labels and for nothing else")],
    bought: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
    logreg_scores: Annotated[Path | None, Option(help="logistic regression's scores of the test images")] = None,
    logreg_seconds: Annotated[Path | None, Option()] = None,
    nn_scores: Annotated[Path | None, Option(help="the network's scores of the test images")] = None,
    nn_training: Annotated[Path | None, Option(help="JSON: how the network's training went")] = None,
    nn_seconds: Annotated[Path | None, Option()] = None,
) -> None:
    actual = np.array(load_labels(test_labels))
    true_labels = np.array(load_labels(train_labels))
    grades: dict[str, Any] = grade_labels(
        load_labelled(bought, len(true_labels)), load_labelled(training_set, len(true_labels)), true_labels
    )
    if logreg_scores and logreg_seconds:
        answers = load_scores(logreg_scores).argmax(axis=1)
        grades["logreg"] = grade_predictions(actual, answers) | json.loads(logreg_seconds.read_text())
    if nn_scores and nn_training and nn_seconds:
        answers = load_scores(nn_scores).argmax(axis=1)
        grades["nn"] = (
            grade_predictions(actual, answers)
            | json.loads(nn_training.read_text())
            | json.loads(nn_seconds.read_text())
        )
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
