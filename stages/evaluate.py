"""Grade both classifiers on the test set, and the spread labels against the true ones; nothing is chosen here."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typer import Option

from stages.artifacts import LabelledImages, load_labelled, load_labels, load_scores, replacing
from stages.cli import run
from stages.dataset import CLASS_NAMES

CLASSES = np.arange(len(CLASS_NAMES))


def main(
    logreg_scores: Annotated[Path, Option(help="logistic regression's scores of the test images")],
    nn_scores: Annotated[Path, Option(help="the network's scores of the test images")],
    nn_training: Annotated[Path, Option(help="JSON: how the network's training went")],
    test_labels: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option(help="used to grade the spread labels and for nothing else")],
    bought: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    metrics: Annotated[Path, Option()],
    plots: Annotated[Path, Option(help="folder for confusion matrices and accuracy by class")],
) -> None:
    actual = np.array(load_labels(test_labels))
    true_labels = np.array(load_labels(train_labels))
    predicted = {"logreg": load_scores(logreg_scores).argmax(axis=1), "nn": load_scores(nn_scores).argmax(axis=1)}
    report = {
        **grade_labels(
            load_labelled(bought, len(true_labels)), load_labelled(training_set, len(true_labels)), true_labels
        ),
        "logreg": grade_predictions(actual, predicted["logreg"]),
        "nn": grade_predictions(actual, predicted["nn"]) | json.loads(nn_training.read_text()),
    }
    for model, answers in predicted.items():
        write_plots(plots, model, actual, answers)
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")


def grade_labels(
    bought: LabelledImages, training_set: LabelledImages, true_labels: NDArray[np.uint8]
) -> dict[str, Any]:
    """Count the labels and grade those that were spread.

    Parameters
    ----------
    bought, training_set : LabelledImages
    true_labels : ndarray of shape (n_images,), uint8

    Returns
    -------
    dict
        ``labels``: how many were ``bought`` and how many images were ``trained_on``. ``propagation``: ``accuracy`` of
        the labels of images that were not bought (None where there are none) and ``coverage``, the share of all
        training images that ended in the training set; both in 0-1.
    """
    spread = ~np.isin(training_set.index, bought.index)
    right = training_set.label[spread] == true_labels[training_set.index[spread]]
    return {
        "labels": {"bought": len(bought.index), "trained_on": len(training_set.index)},
        "propagation": {
            "accuracy": round(float(right.mean()), 6) if len(right) else None,
            "coverage": round(len(training_set.index) / len(true_labels), 6),
        },
    }


def grade_predictions(actual: NDArray[np.uint8], predicted: NDArray[np.integer]) -> dict[str, float]:
    """Give the accuracy and the F1 score averaged over the ten classes, both in 0-1."""
    counts = count_confusions(actual, predicted)
    right = np.diag(counts)
    # A class that is neither there nor answered has an F1 score of 0.
    f1 = 2 * right / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    return {"accuracy": round(float(right.sum() / counts.sum()), 6), "macro_f1": round(float(f1.mean()), 6)}


def count_confusions(actual: NDArray[np.uint8], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the images of each actual class (rows) by predicted class (columns), as scikit-learn would.

    This module does without scikit-learn, which takes longer to load than everything here takes to run.

    Parameters
    ----------
    actual, predicted : ndarray of shape (n_images,)
        Classes 0-9.

    Returns
    -------
    ndarray of shape (10, 10), int64
    """
    n_classes = len(CLASSES)
    pairs = n_classes * actual.astype(np.int64) + predicted
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def write_plots(folder: Path, model: str, actual: NDArray[np.uint8], predicted: NDArray[np.integer]) -> None:
    """Write confusion matrix and accuracy by class of one model, each as CSV for DVC and as PNG for everyone.

    Parameters
    ----------
    folder : Path
    model : str
        Starts the file names.
    actual, predicted : ndarray of shape (n_images,)
        Classes 0-9.
    """
    names = np.array(CLASS_NAMES)
    counts = count_confusions(actual, predicted)
    accuracy = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    tables = {
        f"{model}_confusion": pd.DataFrame({"actual": names[actual], "predicted": names[predicted]}),
        f"{model}_class_accuracy": pd.DataFrame({"class": names, "accuracy": accuracy.round(6)}),
    }
    figures = {
        f"{model}_confusion": draw_confusion(counts, model),
        f"{model}_class_accuracy": draw_class_accuracy(accuracy, model),
    }
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
        with replacing(folder / f"{name}.png") as temporary:
            figures[name].savefig(temporary, metadata={"Software": None})


def draw_confusion(counts: NDArray[np.int64], model: str) -> Figure:
    """Draw a confusion matrix with its counts; shades are shares of the actual class."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(CLASSES, CLASS_NAMES, rotation=45, ha="right")
    axes.set_yticks(CLASSES, CLASS_NAMES)
    axes.set(xlabel="predicted", ylabel="actual", title=f"{model}: test images by class")
    return figure


def draw_class_accuracy(accuracy: NDArray[np.float64], model: str) -> Figure:
    """Draw the accuracy of each class as a bar, the weakest class at the bottom."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(accuracy, kind="stable")
    bars = axes.barh(np.array(CLASS_NAMES)[order], 100 * accuracy[order])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlim=(0, 108), xlabel="test images classified correctly, %", title=f"{model}: accuracy by class")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    run(main)
