"""The metrics are those promised, and mean what they say."""

import csv
import io
import json

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from few_labels.artifacts import LabelledImages
from few_labels.calibration import apply_temperature
from few_labels.images import to_unit_range
from few_labels.tensorflow_setup import keras
from stages.evaluate import (
    count_confusions,
    draw_class_accuracy,
    draw_confusion,
    grade_audit,
    grade_labels,
    grade_predictions,
    label_pool,
)
from tests.conftest import Clone, leaves


def test_the_metrics_have_exactly_these_keys(small_run: Clone) -> None:
    assert set(leaves(small_run.metrics())) == {
        *("labels.bought", "labels.trained_on", "propagation.accuracy", "propagation.coverage"),
        *("logreg.accuracy", "logreg.macro_f1", "nn.accuracy", "nn.macro_f1", "nn.restarts"),
        *("audit.accuracy", "audit.low", "audit.high", "audit.n", "calibration.logreg.ece", "calibration.nn.ece"),
    }


def test_the_metrics_are_those_of_the_files(small_run: Clone) -> None:
    def column(name: str, index: int) -> np.ndarray:
        return np.loadtxt(small_run.path / "data" / name, delimiter=",", skiprows=1, dtype=int, usecols=[0, 1])[
            :, index
        ]

    metrics = small_run.metrics()
    true_labels = np.load(small_run.path / "data" / "train_labels.npy")
    index, label, bought = column("training_set.csv", 0), column("training_set.csv", 1), column("bought_labels.csv", 0)
    spread = np.array([image not in set(bought) for image in index])
    assert metrics["labels"] == {"bought": len(bought), "trained_on": len(index)}
    assert metrics["propagation"]["accuracy"] == pytest.approx(
        (label[spread] == true_labels[index[spread]]).mean(), abs=1e-6
    )
    assert metrics["propagation"]["coverage"] == pytest.approx(len(index) / 1000)

    answers = joblib.load(small_run.path / "models" / "logreg.joblib").predict(
        np.load(small_run.path / "data" / "test_features.npy")
    )
    actual = np.load(small_run.path / "data" / "test_labels.npy")
    assert metrics["logreg"]["accuracy"] == pytest.approx((answers == actual).mean(), abs=1e-6)


def test_the_scores_are_those_of_the_saved_models(small_run: Clone) -> None:
    data, models = small_run.path / "data", small_run.path / "models"
    network = keras.models.load_model(models / "nn.keras")
    answers = network.predict(to_unit_range(np.load(data / "test_images.npy")), verbose=0)
    np.testing.assert_allclose(np.load(data / "nn_test_scores.npy"), answers, atol=1e-5)
    answers = joblib.load(models / "logreg.joblib").predict_proba(np.load(data / "test_features.npy"))
    np.testing.assert_allclose(np.load(data / "logreg_test_scores.npy"), answers, atol=1e-6)


def test_the_accuracy_of_no_spread_label_is_null() -> None:
    bought = LabelledImages(np.arange(3), np.array([1, 2, 3], np.uint8))
    graded = grade_labels(bought, bought, np.array([1, 2, 3, 4], np.int16))
    assert graded["propagation"] == {"accuracy": None, "coverage": 0.75}


def test_labels_that_nobody_knows_grade_nothing() -> None:
    bought = LabelledImages(np.array([0]), np.array([1], np.uint8))
    spread = LabelledImages(np.arange(4), np.array([1, 2, 3, 3], np.uint8))
    graded = grade_labels(bought, spread, np.array([1, 2, -1, 4], np.int16))
    assert graded["propagation"] == {"accuracy": 0.5, "coverage": 1.0}
    assert grade_predictions(np.empty(0, np.int16), np.empty((0, 3), np.float32)) == {
        "accuracy": None,
        "macro_f1": None,
    }


def test_the_audit_gives_an_interval() -> None:
    actual, predicted = np.zeros(10, np.uint8), np.array([0] * 8 + [1] * 2)
    assert grade_audit(actual, predicted) == {"accuracy": 0.8, "low": 0.490162, "high": 0.943318, "n": 10}
    assert grade_audit(actual[:0], predicted[:0]) == {"accuracy": None, "low": None, "high": None, "n": 0}


def test_every_image_of_the_pool_gets_a_label_and_where_it_came_from() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]], np.float32)
    given = LabelledImages(np.array([0]), np.array([1], np.uint8))
    training_set = LabelledImages(np.array([0, 1, 2]), np.array([1, 1, 1], np.uint8))
    answer = label_pool(scores, given, training_set)
    assert answer["label"].tolist() == [1, 1, 0, 0]
    assert answer["source"].tolist() == ["bought", "spread", "network", "network"]
    np.testing.assert_allclose(answer["confidence"], [1, 0.8, 0.6, 0.7], rtol=1e-6)


def test_the_pool_labels_are_those_of_the_files(small_run: Clone) -> None:
    data = small_run.path / "data"
    table = pd.read_csv(data / "pool_labels.csv")
    bought = pd.read_csv(data / "bought_labels.csv")
    assert list(table.columns) == ["image", "label", "confidence", "source"]
    assert table["image"].tolist() == pd.read_csv(data / "train_names.csv")["image"].tolist()
    given = table[table["source"] == "bought"]
    assert given["image"].tolist() == bought["image"].tolist()
    assert given["label"].tolist() == bought["class"].tolist()
    names = np.array(json.loads((data / "classes.json").read_text())["class_names"])
    answered = table["source"] != "bought"
    scores = np.load(data / "nn_pool_scores.npy")
    np.testing.assert_array_equal(table["label"][answered], names[scores.argmax(axis=1)][answered])
    assert set(table["source"]) == {"bought", "spread", "network"}


def test_the_answer_by_both_is_graded_and_labels_the_pool(recipe_run: Clone) -> None:
    data, metrics = recipe_run.path / "data", recipe_run.metrics()
    temperature = json.loads((recipe_run.path / "models/nn_calibration.json").read_text())["temperature"]

    def average(of: str) -> np.ndarray:
        logreg, network = (np.load(data / f"{model}_{of}_scores.npy") for model in ("logreg", "nn"))
        return (logreg + apply_temperature(network, temperature)) / 2

    assert metrics["answer"] == "mean"
    right = average("test").argmax(axis=1) == np.load(data / "test_labels.npy")
    assert metrics["mean"]["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert metrics["calibration"].keys() == {"logreg", "nn", "mean"}
    table = pd.read_csv(data / "pool_labels.csv")
    answered = table["source"] != "bought"
    assert set(table["source"]) <= {"bought", "spread", "mean"}
    names = np.array(json.loads((data / "classes.json").read_text())["class_names"])
    np.testing.assert_array_equal(table["label"][answered], names[average("pool").argmax(axis=1)][answered])


def test_suspects_are_bought_labels_that_are_contradicted(small_run: Clone) -> None:
    data = small_run.path / "data"
    table, bought = pd.read_csv(data / "suspects.csv"), pd.read_csv(data / "bought_labels.csv").set_index("image")
    assert list(table.columns) == ["image", "label", "suggested", "doubt"]
    assert (np.diff(table["doubt"]) <= 0).all()
    assert (table["label"] != table["suggested"]).all()
    assert (bought.loc[table["image"], "class"].to_numpy() == table["label"]).all()


@pytest.mark.parametrize("n_classes", [1, 2, 200])
def test_any_number_of_classes_is_drawn(n_classes: int) -> None:
    names = [f"class {number} with a long name of $x_{number}$" for number in range(n_classes)]
    figures = [
        draw_confusion(np.eye(n_classes, dtype=np.int64), names, "title"),
        draw_class_accuracy(np.linspace(0, 1, n_classes), names, "title", "test images"),
    ]
    for figure in figures:
        with io.BytesIO() as file:
            figure.savefig(file)
            assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("n_classes", [3, 10])
def test_the_grades_are_those_of_scikit_learn(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, n_classes, 200, np.uint8), rng.integers(0, 10, 200)
    scores = np.eye(10, dtype=np.float32)[predicted]
    labels = np.arange(10)
    np.testing.assert_array_equal(
        count_confusions(actual, predicted, 10), confusion_matrix(actual, predicted, labels=labels)
    )
    assert grade_predictions(actual, scores) == {
        "accuracy": pytest.approx(accuracy_score(actual, predicted), abs=1e-6),
        "macro_f1": pytest.approx(
            f1_score(actual, predicted, labels=labels, average="macro", zero_division=0), abs=1e-6
        ),
    }


@pytest.mark.parametrize("model", ["logreg", "nn"])
def test_the_plots_tell_what_the_metrics_tell(small_run: Clone, model: str) -> None:
    folder = small_run.path / "metrics" / "plots" / "evaluation"
    with (folder / f"{model}_confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 167
    right = np.mean([row["actual"] == row["predicted"] for row in rows])
    assert right == pytest.approx(small_run.metrics()[model]["accuracy"], abs=1e-6)
    with (folder / f"{model}_class_accuracy.csv").open() as file:
        by_class = {row["class"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    coats = [row["predicted"] == "Coat" for row in rows if row["actual"] == "Coat"]
    assert by_class["Coat"] == pytest.approx(np.mean(coats), abs=1e-6)
    for picture in ("confusion", "class_accuracy", "reliability"):
        assert (folder / f"{model}_{picture}.png").read_bytes().startswith(b"\x89PNG")
