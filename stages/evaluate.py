"""Grade what was trained, and give the answer for the whole pool; nothing is chosen here by what grades.

Both classifiers are graded on the test images whose labels are known. Which of them is the answer, or whether the mean
of their probabilities is, a parameter says, or the bought labels do, out of fold. The audit images, drawn uniformly
from the pool and kept out of training, grade the answer: with an interval, and without a test set. Known labels of the
pool grade the spread ones, and nothing else.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import (
    UNKNOWN,
    LabelledImages,
    load_classes,
    load_images,
    load_labelled,
    load_labels,
    load_names,
    load_scores,
    replacing,
)
from few_labels.calibration import (
    apply_temperature,
    average,
    draw_reliability,
    expected_calibration_error,
    reliability,
    wilson_interval,
)
from few_labels.folds import grade_out_of_fold
from few_labels.sheets import draw_sheet, shorten
from few_labels.stored import Rows
from few_labels.suspects import rank_suspects
from stages import run

N_SHOWN = 60
MOST_COUNTS_WRITTEN = 20
MOST_BARS = 40
# What an answer that nobody gave is said to come from.
SOURCES = {"nn": "network", "logreg": "logreg", "mean": "mean"}


def main(
    evaluate__answer: str,
    classes: Annotated[Path, Option()],
    names: Annotated[Path, Option(help="of the pool")],
    images: Annotated[Path, Option(help="of the pool")],
    logreg_test_scores: Annotated[Path, Option()],
    logreg_pool_scores: Annotated[Path, Option()],
    logreg_bought_scores: Annotated[Path, Option(help="of the bought labels, out of fold")],
    nn_test_scores: Annotated[Path, Option()],
    nn_pool_scores: Annotated[Path, Option()],
    nn_calibration: Annotated[Path, Option(help="JSON: the temperature of its probabilities")],
    nn_training: Annotated[Path, Option(help="JSON: how the network's training went")],
    test_labels: Annotated[Path, Option()],
    train_labels: Annotated[Path, Option(help="used to grade the spread labels and for nothing else")],
    audit_labels: Annotated[Path, Option()],
    bought: Annotated[Path, Option()],
    training_set: Annotated[Path, Option()],
    metrics: Annotated[Path, Option()],
    plots: Annotated[Path, Option(help="folder for confusion matrices, accuracy by class and reliability")],
    pool_labels: Annotated[Path, Option(help="the answer for the whole pool")],
    least_sure: Annotated[Path, Option(help="a contact sheet of the answers that are least sure")],
    suspects: Annotated[Path, Option(help="bought labels that the model contradicts, surest first")],
    suspects_sheet: Annotated[Path, Option(help="a contact sheet of them")],
) -> None:
    pictures, class_names = load_images(images), load_classes(classes).class_names
    n_images, n_classes = len(pictures), len(class_names)
    name = load_names(names, n_images)
    purchase = load_labelled(bought, n_images, n_classes)
    audit = load_labelled(audit_labels, n_images, n_classes)
    trained_on = load_labelled(training_set, n_images, n_classes)
    known_test = load_labels(test_labels)
    graded, actual = np.flatnonzero(known_test != UNKNOWN), known_test[known_test != UNKNOWN]

    temperature = json.loads(nn_calibration.read_text())["temperature"]
    test = {
        "logreg": load_scores(logreg_test_scores, len(known_test), n_classes)[graded],
        "nn": apply_temperature(load_scores(nn_test_scores, len(known_test), n_classes), temperature)[graded],
    }
    pool = {
        "logreg": load_scores(logreg_pool_scores, n_images, n_classes),
        "nn": apply_temperature(load_scores(nn_pool_scores, n_images, n_classes), temperature),
    }

    training = json.loads(nn_training.read_text())
    bought_scores = load_scores(logreg_bought_scores, len(purchase.index), n_classes)
    out_of_fold = grade_out_of_fold(bought_scores, purchase.label)
    model = choose(evaluate__answer, training.get("out_of_fold"), out_of_fold)

    if model == "mean":
        test["mean"], pool["mean"] = (average(scores["logreg"], scores["nn"]) for scores in (test, pool))

    report = {
        **grade_labels(purchase, trained_on, load_labels(train_labels, n_images)),
        **{classifier: grade_predictions(actual, test[classifier]) for classifier in test},
        "audit": grade_audit(audit.label, pool[model][audit.index].argmax(axis=1)),
    }
    report["nn"] |= training
    # The network answers where nothing else is said.
    if evaluate__answer != "nn":
        report["answer"] = model
        report["logreg"]["out_of_fold"] = out_of_fold
    # Without a test set the audit images show what there is to see.
    subject, truth, shown = "test images", actual, test
    if not len(graded):
        subject, truth = "audit images", audit.label
        shown = {model: pool[model][audit.index] for model in pool}
    report["calibration"] = {model: grade_confidence(truth, shown[model]) for model in shown}
    for classifier in ("logreg", "nn"):
        write_plots(plots, classifier, truth, shown[classifier], class_names, subject)
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")

    answer = label_pool(pool[model], merge(purchase, audit), trained_on, SOURCES[model])
    write_pool_labels(pool_labels, answer, name, class_names)
    with replacing(least_sure) as temporary:
        draw_least_sure(answer, pictures, class_names).savefig(temporary, metadata={"Software": None})
    contradicted = list_suspects(bought_scores, purchase)
    write_suspects(suspects, contradicted, name, class_names)
    with replacing(suspects_sheet) as temporary:
        draw_suspects(contradicted, pictures, class_names).savefig(temporary, metadata={"Software": None})


def choose(answer: str, network: float | None, logreg: float | None) -> str:
    """Say which classifier answers.

    Parameters
    ----------
    answer : str
        ``nn``, ``logreg``, ``mean``, or ``auto``: the one that is right about more of the bought labels, out of fold.
    network, logreg : float or None
        The accuracy of each on them, in 0-1.

    Returns
    -------
    str
        ``nn``, ``logreg`` or ``mean``. By ``auto``, where both are right as often the one that is less work, and where
        the labels are too few to judge by the default.
    """
    if answer != "auto":
        return answer
    return "nn" if network is None or logreg is None or network > logreg else "logreg"


def count_rows(path: Path) -> int:
    """Say how many labels a file has, without reading them."""
    return len(np.load(path, mmap_mode="r"))


def grade_labels(
    bought: LabelledImages, training_set: LabelledImages, true_labels: NDArray[np.int16]
) -> dict[str, Any]:
    """Count the labels and grade those that were spread.

    Parameters
    ----------
    bought, training_set : LabelledImages
    true_labels : ndarray of shape (n_images,), int16
        -1 where nobody knows: such an image grades nothing.

    Returns
    -------
    dict
        ``labels``: how many were ``bought`` and how many images were ``trained_on``. ``propagation``: ``accuracy`` of
        the labels of images that were not bought (None where there are none to grade) and ``coverage``, the share of
        the pool that ended in the training set; both in 0-1.
    """
    spread = ~np.isin(training_set.index, bought.index)
    truth = true_labels[training_set.index[spread]]
    right = (training_set.label[spread] == truth)[truth != UNKNOWN]
    return {
        "labels": {"bought": len(bought.index), "trained_on": len(training_set.index)},
        "propagation": {
            "accuracy": round(float(right.mean()), 6) if len(right) else None,
            "coverage": round(len(training_set.index) / len(true_labels), 6),
        },
    }


def grade_predictions(actual: NDArray[np.integer], scores: NDArray[np.float32]) -> dict[str, float | None]:
    """Give the accuracy and the F1 score averaged over the classes.

    Parameters
    ----------
    actual : ndarray of shape (n_images,), integer
    scores : ndarray of shape (n_images, n_classes), float32

    Returns
    -------
    dict
        ``accuracy`` and ``macro_f1``, in 0-1; None where there is no image.
    """
    if not len(actual):
        return {"accuracy": None, "macro_f1": None}
    counts = count_confusions(actual, scores.argmax(axis=1), scores.shape[1])
    right = np.diag(counts)
    # A class that is neither there nor answered has an F1 score of 0.
    f1 = 2 * right / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    return {"accuracy": round(float(right.sum() / counts.sum()), 6), "macro_f1": round(float(f1.mean()), 6)}


def grade_audit(actual: NDArray[np.integer], predicted: NDArray[np.integer]) -> dict[str, float | int | None]:
    """Estimate the accuracy over the whole pool from images drawn uniformly from it.

    Parameters
    ----------
    actual, predicted : ndarray of shape (n_images,), integer

    Returns
    -------
    dict
        ``accuracy``, in 0-1, with its 95 % interval by Wilson from ``low`` to ``high`` (None without an image), and
        ``n``, the number of images.
    """
    if not len(actual):
        return {"accuracy": None, "low": None, "high": None, "n": 0}
    n_right = int(np.count_nonzero(actual == predicted))
    low, high = wilson_interval(n_right, len(actual))
    accuracy = n_right / len(actual)
    return {"accuracy": round(accuracy, 6), "low": round(low, 6), "high": round(high, 6), "n": len(actual)}


def grade_confidence(actual: NDArray[np.integer], scores: NDArray[np.float32]) -> dict[str, float | None]:
    """Give the expected calibration error, in 0-1: how far confidence and accuracy are apart on average."""
    if not len(actual):
        return {"ece": None}
    right = scores.argmax(axis=1) == actual
    return {"ece": round(expected_calibration_error(scores.max(axis=1), right), 6)}


def count_confusions(actual: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Count the images of each actual class (rows) by predicted class (columns), as scikit-learn would.

    This module does without scikit-learn, which takes longer to load than everything here takes to run.

    Parameters
    ----------
    actual, predicted : ndarray of shape (n_images,)
        Classes from 0.
    n_classes : int

    Returns
    -------
    ndarray of shape (n_classes, n_classes), int64
    """
    pairs = n_classes * actual.astype(np.int64) + predicted
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def merge(bought: LabelledImages, audit: LabelledImages) -> LabelledImages:
    """Put all labels that somebody gave together."""
    index = np.concatenate([bought.index, audit.index])
    order = np.argsort(index)
    return LabelledImages(index[order], np.concatenate([bought.label, audit.label])[order])


def label_pool(
    scores: NDArray[np.float32], given: LabelledImages, training_set: LabelledImages, answered_by: str = "network"
) -> pd.DataFrame:
    """Give every image of the pool a label.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), float32, in 0-1
        Those of the classifier that answers.
    given : LabelledImages
        What somebody answered.
    training_set : LabelledImages
    answered_by : str
        The classifier's name.

    Returns
    -------
    DataFrame
        A row an image: ``label``; ``confidence``, the classifier's for it; ``source``: ``bought`` where somebody gave
        it, of which confidence is 1, ``spread`` where the classifier confirms a spread label, and its own name where it
        answers alone or contradicts one.
    """
    label = scores.argmax(axis=1)
    source = np.full(len(scores), answered_by, object)
    confirmed = training_set.index[label[training_set.index] == training_set.label]
    source[confirmed] = "spread"
    confidence = scores.max(axis=1)
    label[given.index], confidence[given.index], source[given.index] = given.label, 1, "bought"
    return pd.DataFrame({"label": label, "confidence": confidence, "source": source})


def list_suspects(scores: NDArray[np.float32], bought: LabelledImages) -> pd.DataFrame:
    """List the bought labels that the model contradicts, surest first.

    Parameters
    ----------
    scores : ndarray of shape (n_bought, n_classes), float32, in 0-1
        Out of fold.
    bought : LabelledImages

    Returns
    -------
    DataFrame
        ``row`` of the pool, ``label`` as bought, the label ``suggested`` in its place, and the ``doubt`` in the bought
        one, in 0-1: one minus its probability.
    """
    order, probability = rank_suspects(scores, bought.label)
    return pd.DataFrame(
        {
            "row": bought.index[order],
            "label": bought.label[order],
            "suggested": scores[order].argmax(axis=1),
            "doubt": 1 - probability,
        }
    )


def write_pool_labels(path: Path, answer: pd.DataFrame, names: list[str], class_names: list[str]) -> None:
    """Write the answer for the pool as CSV: ``image,label,confidence,source``, the label by name."""
    table = answer.assign(
        image=names,
        label=np.array(class_names, object)[answer["label"]],
        confidence=answer["confidence"].map("{:.4f}".format),
    )
    with replacing(path) as temporary:
        table[["image", "label", "confidence", "source"]].to_csv(temporary, index=False)


def write_suspects(path: Path, contradicted: pd.DataFrame, names: list[str], class_names: list[str]) -> None:
    """Write suspects as CSV: ``image,label,suggested,doubt``, labels by name."""
    name_of = np.array(class_names, object)
    table = pd.DataFrame(
        {
            "image": [names[row] for row in contradicted["row"]],
            "label": name_of[contradicted["label"]],
            "suggested": name_of[contradicted["suggested"]],
            "doubt": contradicted["doubt"].map("{:.4f}".format),
        }
    )
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def draw_least_sure(answer: pd.DataFrame, pictures: Rows, class_names: list[str]) -> Figure:
    """Show the answers that are least sure."""
    least = answer[answer["source"] != "bought"].sort_values("confidence", kind="stable").head(N_SHOWN)
    captions = [
        f"{class_names[label]}\n{confidence:.0%}"
        for label, confidence in zip(least["label"], least["confidence"], strict=True)
    ]
    return draw_sheet(pictures[least.index.to_numpy()], captions, f"The {len(least)} least sure answers")


def draw_suspects(contradicted: pd.DataFrame, pictures: Rows, class_names: list[str]) -> Figure:
    """Show the bought labels that are contradicted most surely."""
    first = contradicted.head(N_SHOWN)
    captions = [
        f"{class_names[label]}?\n{class_names[suggested]}"
        for label, suggested in zip(first["label"], first["suggested"], strict=True)
    ]
    title = f"{len(contradicted)} bought labels that the model contradicts, the {len(first)} surest"
    return draw_sheet(pictures[first["row"].to_numpy()], captions, title)


def write_plots(
    folder: Path,
    model: str,
    actual: NDArray[np.integer],
    scores: NDArray[np.float32],
    class_names: list[str],
    subject: str,
) -> None:
    """Write confusion matrix, accuracy by class and reliability of one model, as CSV for DVC and as PNG for everyone.

    Parameters
    ----------
    folder : Path
    model : str
        Starts the file names.
    actual : ndarray of shape (n_images,), integer
    scores : ndarray of shape (n_images, n_classes), float32, in 0-1
    class_names : list of str
    subject : str
        What the images are, for the titles.
    """
    names, predicted = np.array(class_names, object), scores.argmax(axis=1)
    counts = count_confusions(actual, predicted, len(class_names))
    accuracy = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    trust = reliability(scores.max(axis=1), predicted == actual)
    tables = {
        "confusion": pd.DataFrame({"actual": names[actual], "predicted": names[predicted]}),
        "class_accuracy": pd.DataFrame({"class": names, "accuracy": accuracy.round(6)}),
        "reliability": trust.round(6),
    }
    figures = {
        "confusion": draw_confusion(counts, class_names, f"{model}: {subject} by class"),
        "class_accuracy": draw_class_accuracy(accuracy, class_names, f"{model}: accuracy by class", subject),
        "reliability": draw_reliability(
            trust, f"{model}: how far to trust its confidence, on {len(actual):,} {subject}"
        ),
    }
    for what, table in tables.items():
        with replacing(folder / f"{model}_{what}.csv") as temporary:
            table.to_csv(temporary, index=False)
        with replacing(folder / f"{model}_{what}.png") as temporary:
            figures[what].savefig(temporary, metadata={"Software": None})


def draw_confusion(counts: NDArray[np.int64], class_names: list[str], title: str) -> Figure:
    """Draw a confusion matrix, with its counts where there is room; shades are shares of the actual class."""
    n_classes = len(class_names)
    figure = Figure(figsize=(8, 7) if n_classes <= MOST_COUNTS_WRITTEN else (12, 11), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n_classes <= MOST_COUNTS_WRITTEN:
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                shade = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade, fontsize=9)
    # As many names as can be read.
    named = np.arange(0, n_classes, -(-n_classes // 50))
    labels = [shorten(class_names[c]) for c in named]
    axes.set_xticks(
        named, labels, rotation=45 if n_classes <= MOST_COUNTS_WRITTEN else 90, ha="right", parse_math=False
    )
    axes.set_yticks(named, labels, parse_math=False)
    axes.set(xlabel="predicted", ylabel="actual", title=title)
    return figure


def draw_class_accuracy(accuracy: NDArray[np.float64], class_names: list[str], title: str, subject: str) -> Figure:
    """Draw the accuracy of each class as a bar, the weakest class at the bottom; of many classes the weakest."""
    order = np.argsort(accuracy, kind="stable")[:MOST_BARS]
    figure = Figure(figsize=(8, max(4, 0.25 * len(order))), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(np.arange(len(order)), 100 * accuracy[order])
    axes.set_yticks(np.arange(len(order)), [shorten(class_names[c]) for c in order], parse_math=False)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    fewer = f" (the weakest {MOST_BARS} of {len(class_names)})" if len(class_names) > MOST_BARS else ""
    axes.set(xlim=(0, 108), xlabel=f"{subject} classified correctly, %", title=f"{title}{fewer}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    run(main)
