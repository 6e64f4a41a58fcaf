"""Grade the models that one training set made: the metrics of the pipeline's evaluate stage, and what they took."""

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from few_labels.artifacts import load_classes, load_labelled, load_labels, load_scores, replacing
from stages import run
from stages.evaluate import count_rows, grade_labels, grade_predictions


def main(
    classes: Annotated[Path, Option()],
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
    n_classes = len(load_classes(classes).class_names)
    n_images, n_test_images = count_rows(train_labels), count_rows(test_labels)
    actual = load_labels(test_labels, n_test_images)
    grades: dict[str, Any] = grade_labels(
        load_labelled(bought, n_images, n_classes),
        load_labelled(training_set, n_images, n_classes),
        load_labels(train_labels, n_images),
    )
    if logreg_scores and logreg_seconds:
        scores = load_scores(logreg_scores, n_test_images, n_classes)
        grades["logreg"] = grade_predictions(actual, scores) | json.loads(logreg_seconds.read_text())
    if nn_scores and nn_training and nn_seconds:
        scores = load_scores(nn_scores, n_test_images, n_classes)
        grades["nn"] = (
            grade_predictions(actual, scores) | json.loads(nn_training.read_text()) | json.loads(nn_seconds.read_text())
        )
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
