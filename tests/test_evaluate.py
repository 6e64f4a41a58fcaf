"""The metrics are those promised, and mean what they say."""

import csv

import joblib
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from few_labels.artifacts import LabelledImages
from few_labels.images import to_unit_range
from few_labels.tensorflow_setup import keras
from stages.evaluate import count_confusions, grade_labels, grade_predictions
from tests.conftest import Clone, leaves


def test_the_metrics_have_exactly_these_keys(small_run: Clone) -> None:
    assert set(leaves(small_run.metrics())) == {
        *("labels.bought", "labels.trained_on", "propagation.accuracy", "propagation.coverage"),
        *("logreg.accuracy", "logreg.macro_f1", "nn.accuracy", "nn.macro_f1", "nn.restarts"),
    }


def test_the_metrics_are_those_of_the_files(small_run: Clone) -> None:
    def column(name: str, index: int) -> np.ndarray:
        return np.loadtxt(small_run.path / "data" / name, delimiter=",", skiprows=1, dtype=int)[:, index]

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
    graded = grade_labels(bought, bought, np.array([1, 2, 3, 4], np.uint8))
    assert graded["propagation"] == {"accuracy": None, "coverage": 0.75}


@pytest.mark.parametrize("n_classes", [3, 10])
def test_the_grades_are_those_of_scikit_learn(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, n_classes, 200, np.uint8), rng.integers(0, 10, 200)
    labels = np.arange(10)
    np.testing.assert_array_equal(
        count_confusions(actual, predicted), confusion_matrix(actual, predicted, labels=labels)
    )
    assert grade_predictions(actual, predicted) == {
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
    for picture in ("confusion", "class_accuracy"):
        assert (folder / f"{model}_{picture}.png").read_bytes().startswith(b"\x89PNG")
