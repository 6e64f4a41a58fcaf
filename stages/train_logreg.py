"""Train logistic regression on the features of the training set, and score the pool and the test images.

The bought labels are scored out of fold too, by models that were not shown them: that says which ones it contradicts.
"""

from pathlib import Path
from typing import Annotated

import joblib
from sklearn.pipeline import Pipeline
from typer import Option

from few_labels.artifacts import load_classes, load_features, load_labelled, replacing, save_array, scratch_beside
from few_labels.blocks import open_rows
from few_labels.errors import InputError
from few_labels.logistic_regression import out_of_fold, score, train_on
from few_labels.parameters import TrainLogreg
from stages import run


def main(
    train_logreg: TrainLogreg,
    seed: int,
    features: Annotated[Path, Option()],
    classes: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_features: Annotated[Path, Option()],
    model: Annotated[Path, Option()],
    test_scores: Annotated[Path, Option(help="the probabilities of the classes for each test image")],
    pool_scores: Annotated[Path | None, Option(help="the same for each image of the pool")] = None,
    bought: Annotated[Path | None, Option(help="the labels that are scored out of fold")] = None,
    bought_scores: Annotated[Path | None, Option(help="the same for each bought label, out of fold")] = None,
) -> None:
    rows, n_classes = open_rows(load_features(features)), len(load_classes(classes).class_names)
    settings = {**train_logreg.model_dump(), "seed": seed}
    labelled = load_labelled(training_set, len(rows), n_classes)
    with scratch_beside(model) as scratch:
        classifier = train_on(rows, labelled, **settings, scratch=scratch)
    with replacing(model) as temporary:
        joblib.dump(classifier, temporary)
    test_rows = open_rows(load_features(test_features))
    if test_rows.shape[1] != rows.shape[1]:
        raise InputError(f"{test_features}: {test_rows.shape[1]} features, those of {features} are {rows.shape[1]}")
    save_array(test_scores, score(classifier, test_rows, n_classes))
    if pool_scores:
        save_array(pool_scores, score(classifier, rows, n_classes))
    if bought and bought_scores:
        purchase = load_labelled(bought, len(rows), n_classes)
        save_array(
            bought_scores,
            out_of_fold(rows[purchase.index], purchase.label, n_classes, **settings),
        )
    (n_iterations,) = (classifier[-1] if isinstance(classifier, Pipeline) else classifier).n_iter_
    print(
        f"logistic regression on {len(labelled.index)} images, {n_iterations} iterations "
        f"of at most {train_logreg.max_iter}"
    )


if __name__ == "__main__":
    run(main)
