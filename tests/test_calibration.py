"""Probabilities hold what they say, and intervals are those of the papers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from few_labels.calibration import (
    apply_temperature,
    draw_reliability,
    expected_calibration_error,
    fit_temperature,
    reliability,
    wilson_interval,
)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_labels(rng: np.random.Generator, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return (rng.random((len(scores), 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=scores.shape[1] - 1)


def test_importing_it_loads_nothing_but_numpy() -> None:
    heavy = {"matplotlib", "pandas", "scipy", "sklearn"}
    script = f"import sys, few_labels.calibration; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(20_000, 10)) * max(temperature, 1)
    label = draw_labels(rng, softmax(logits / temperature))
    assert fit_temperature(softmax(logits), label) == pytest.approx(temperature, rel=0.05)


def test_calibrated_scores_need_no_further_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=6, size=(2000, 5))
    label = draw_labels(rng, softmax(logits / 3))
    scores = softmax(logits)
    calibrated = apply_temperature(scores, fit_temperature(scores, label))
    assert fit_temperature(calibrated, label) == pytest.approx(1, abs=0.02)

    def error(probabilities: NDArray[np.float32]) -> float:
        return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == label)

    assert error(scores) > 0.1 > 0.03 > error(calibrated)


def test_no_label_leaves_the_temperature_at_1() -> None:
    assert fit_temperature(np.empty((0, 10), np.float32), np.empty(0, np.uint8)) == 1


def test_a_few_labels_move_the_temperature_little_and_many_move_it_to_its_bound() -> None:
    sure = np.array([[0.99, 0.01]], np.float32)
    right, wrong = np.array([0]), np.array([1])
    assert 0.8 < fit_temperature(sure, right) < 1 < fit_temperature(sure, wrong) < 2.5
    n = 10_000
    assert fit_temperature(np.repeat([[0.6, 0.4]], n, axis=0).astype(np.float32), np.zeros(n, int)) < 0.1
    assert fit_temperature(np.repeat(sure, n, axis=0), np.ones(n, int)) == pytest.approx(20, rel=0.01)


def test_exact_zeros_give_a_temperature_and_rows_of_zeros_do_not_count() -> None:
    rng = np.random.default_rng(0)
    scores = softmax(rng.normal(scale=60, size=(500, 4)))
    label = draw_labels(rng, scores)
    label[:20] = scores[:20].argmin(axis=1)
    assert (scores[np.arange(500), label] == 0).any()
    temperature = fit_temperature(scores, label)
    assert 1 < temperature < 20
    padded = np.vstack([scores, np.zeros((50, 4), np.float32)])
    assert fit_temperature(padded, np.append(label, np.zeros(50, int))) == pytest.approx(temperature, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, 20.0])
def test_a_temperature_keeps_answers_zeros_and_sums(temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores = softmax(rng.normal(scale=20, size=(1000, 10)))
    scores[0] = 0
    scores[1], scores[2] = np.eye(10)[3], 0.1
    calibrated = apply_temperature(scores, temperature)
    assert calibrated.dtype == np.float32
    assert calibrated.shape == scores.shape
    np.testing.assert_array_equal(calibrated.argmax(axis=1), scores.argmax(axis=1))
    assert not calibrated[scores == 0].any()
    np.testing.assert_allclose(calibrated[1:].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(calibrated[1:3], scores[1:3])


def test_a_temperature_of_1_changes_nothing_and_of_2_takes_the_square_root() -> None:
    scores = np.array([[0.8, 0.2], [0.3, 0.7]], np.float32)
    np.testing.assert_array_equal(apply_temperature(scores, 1.0), scores)
    np.testing.assert_allclose(apply_temperature(scores, 2.0)[0], [2 / 3, 1 / 3], rtol=1e-6)


def test_a_near_tie_keeps_its_answer() -> None:
    half = np.float32(0.5)
    scores = np.array([[half, np.nextafter(half, np.float32(1))]], np.float32)
    calibrated = apply_temperature(scores, 20.0)
    assert calibrated.argmax() == 1
    np.testing.assert_allclose(calibrated, 0.5, atol=1e-6)


def test_a_low_temperature_takes_no_row_to_zero() -> None:
    scores = np.array([[1, 0, 0, 0], [0.3, 0.25, 0.25, 0.2]], np.float32)
    np.testing.assert_allclose(apply_temperature(scores, 0.001), [[1, 0, 0, 0], [1, 0, 0, 0]], atol=1e-6)


def test_a_zero_counts_as_the_smallest_normal_number() -> None:
    scores = np.array([[0.9, 0.1]] * 500 + [[1, 0]], np.float32)
    label = np.array([0] * 500 + [1])
    smallest = np.maximum(scores, np.finfo(np.float32).tiny)
    temperature = fit_temperature(scores, label)
    assert temperature == pytest.approx(fit_temperature(smallest, label), rel=1e-6)
    assert 0.1 < temperature < 10


def test_rows_of_zeros_do_not_count_at_low_temperatures_either() -> None:
    scores = np.repeat(np.array([[0.6, 0.4], [0, 0]], np.float32), 10_000, axis=0)
    label = np.zeros(20_000, int)
    alone = fit_temperature(scores[:10_000], label[:10_000])
    assert alone < 0.1
    assert fit_temperature(scores, label) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (950, 1000, 0.9347, 0.9619), (0, 0, 0, 1)],
)
def test_the_interval_is_wilsons(n_right: int, n: int, low: float, high: float) -> None:
    found = wilson_interval(n_right, n)
    assert found == pytest.approx((low, high), abs=5e-5)
    assert 0 <= found[0] <= found[1] <= 1


@pytest.mark.parametrize("n", range(1, 60))
def test_no_interval_leaves_0_to_1(n: int) -> None:
    for n_right in range(n + 1):
        low, high = wilson_interval(n_right, n)
        assert 0 <= low < high <= 1


def test_the_bins_are_closed_above_and_empty_ones_have_no_means() -> None:
    confidence = np.array([0, 0.25, 0.5, 0.6, 0.75, 1], np.float32)
    right = np.array([False, True, False, True, True, True])
    table = reliability(confidence, right, n_bins=4)
    assert list(table) == ["low", "high", "n", "confidence", "accuracy"]
    assert table["low"].tolist() == [0, 0.25, 0.5, 0.75]
    assert table["high"].tolist() == [0.25, 0.5, 0.75, 1]
    assert table["n"].tolist() == [2, 1, 2, 1]
    np.testing.assert_allclose(table["confidence"], [0.125, 0.5, 0.675, 1], rtol=1e-6)
    assert table["accuracy"].tolist() == [0.5, 0, 1, 1]
    sparse = reliability(np.array([0.95]), np.array([True]))
    assert sparse["n"].tolist() == [0] * 9 + [1]
    assert sparse[["confidence", "accuracy"]].isna().sum().tolist() == [9, 9]
    assert ",0,,\n" in sparse.to_csv(index=False)


def test_the_expected_calibration_error_is_that_worked_by_hand() -> None:
    # Two of five answers at 0.95, half right, and three at 0.65, all right: 2/5 * 0.45 + 3/5 * 0.35.
    confidence = np.array([0.95, 0.95, 0.65, 0.65, 0.65])
    right = np.array([True, False, True, True, True])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.39)
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0, bool)))


def test_there_are_ten_bins_unless_asked_for_others() -> None:
    confidence, right = np.array([0.905, 0.99]), np.array([False, True])
    assert expected_calibration_error(confidence, right) == pytest.approx(abs(0.9475 - 0.5))
    assert expected_calibration_error(confidence, right, 100) == pytest.approx((0.905 + 0.01) / 2)
    table = reliability(confidence, right)
    assert table["low"].tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert table["high"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


@pytest.mark.parametrize("n", [0, 1, 500])
def test_the_diagram_shows_the_accuracy_and_the_count_of_each_bin(n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, n)
    table = reliability(confidence, rng.random(n) < confidence)
    figure = draw_reliability(table, "a model")
    upper, lower = figure.axes
    assert upper.get_title() == "a model"
    for axes, heights in ((upper, 100 * table["accuracy"].fillna(0)), (lower, table["n"])):
        drawn = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
        np.testing.assert_allclose(drawn, heights)
        bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in bars], range(5, 100, 10))
        np.testing.assert_allclose([bar.get_width() for bar in bars], 9.2)
    intervals = [
        each for lines in upper.collections if isinstance(lines, LineCollection) for each in lines.get_segments()
    ]
    filled = table[table["n"] > 0]
    expected = [wilson_interval(round(share * n), n) for share, n in zip(filled["accuracy"], filled["n"], strict=True)]
    assert len(intervals) == len(expected)
    for line, interval in zip(intervals, expected, strict=True):
        np.testing.assert_allclose(line[:, 1], 100 * np.array(interval))
    figure.savefig(tmp_path / "diagram.png")
