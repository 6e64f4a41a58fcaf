"""Train logistic regression on the features of the training set, and score the test images."""

from pathlib import Path
from typing import Annotated

import joblib
from typer import Option

from stages.artifacts import load_features, load_labelled, replacing, save_array
from stages.cli import run
from stages.logistic_regression import score, train


def main(
    features: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    test_features: Annotated[Path, Option()],
    C: Annotated[float, Option("--C", min=1e-6, help="inverse of the regularisation strength")],
    max_iter: Annotated[int, Option(min=1)],
    seed: Annotated[int, Option(min=0, max=2**31 - 1)],
    model: Annotated[Path, Option()],
    test_scores: Annotated[Path, Option(help="the probabilities of the classes for each test image")],
) -> None:
    rows = load_features(features)
    labelled = load_labelled(training_set, n_images=len(rows))
    classifier = train(rows[labelled.index], labelled.label, weight=labelled.weight, C=C, max_iter=max_iter, seed=seed)
    with replacing(model) as temporary:
        joblib.dump(classifier, temporary)
    save_array(test_scores, score(classifier, load_features(test_features)))
    print(
        f"logistic regression on {len(labelled.index)} images, {classifier.n_iter_[0]} iterations of at most {max_iter}"
    )


if __name__ == "__main__":
    run(main)
