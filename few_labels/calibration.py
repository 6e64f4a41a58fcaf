"""How far to trust a score: probabilities that hold what they say, and intervals for shares that were counted.

Classifiers that are trained to a small loss are surer than they are right. Temperature scaling (Guo et al. 2017, "On
calibration of modern neural networks") mends most of that with one number, which a few labels can settle and which
leaves every answer as it is. Whether it did is read off the reliability diagram and its summary, the expected
calibration error (Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning").

Only what needs SciPy, pandas or Matplotlib loads it: that takes longer than the work.
"""

from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TEMPERATURES = (0.05, 20.0)
# As the prior on 1 / T of fit_temperature counts: log T has a standard deviation of about 1 / sqrt(4) under it.
PRIOR_STRENGTH = 4.0
# The normal distribution holds 95 % within this many standard deviations.
Z_95 = 1.959964


def fit_temperature(scores: NDArray[np.float32], label: NDArray[np.integer]) -> float:
    """Find the temperature under which labels that the model was not trained on are likeliest.

    Few labels, or labels that are all answered right, would send the temperature to an extreme. So the inverse
    temperature has a gamma prior with its mode at 1: ``PRIOR_STRENGTH * (1 / T + log T)`` joins the negative log
    likelihood, summed over labels. It outweighs a handful of labels and is nothing to hundreds. It is convex in 1 / T
    like the likelihood itself, so there is one minimum.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes), float32, in 0-1
        Softmax outputs. A zero counts as the smallest normal float32, so a sure and wrong answer weighs much and not
        infinitely; a row of zeros says nothing.
    label : ndarray of shape (n_samples,), integer
        Classes 0 to n_classes - 1.

    Returns
    -------
    float
        In 0.05-20; above 1 for a model that is too sure, 1 where there is no label.
    """
    if not len(label):
        return 1.0
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(scores, np.finfo(np.float32).tiny).astype(np.float64))
    logits -= logits.max(axis=1, keepdims=True)
    logit_of_labels = logits[np.arange(len(label)), label].sum()

    def loss(log_inverse: float) -> float:
        inverse = exp(log_inverse)
        negative_log_likelihood = np.log(np.exp(inverse * logits).sum(axis=1)).sum() - inverse * logit_of_labels
        return float(negative_log_likelihood + PRIOR_STRENGTH * (inverse - log_inverse))

    lowest, highest = TEMPERATURES
    found = minimize_scalar(loss, bounds=(-log(highest), -log(lowest)), method="bounded")
    return exp(-found.x)


def apply_temperature(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Make probabilities less sure, or surer, without changing any answer.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes), float32, in 0-1
        Softmax outputs.
    temperature : float
        Greater than 0; above 1 makes less sure, 1 returns ``scores``.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32, in 0-1
        Each row sums to 1. Zeros stay zeros, rows of zeros too, and the first greatest of a row stays it.
    """
    if temperature == 1:
        return scores
    greatest = scores.max(axis=1, keepdims=True)
    # Shares of the greatest, not of 1: a low temperature cannot take a whole row to 0.
    powers = np.divide(scores, greatest, out=np.zeros(scores.shape), where=greatest > 0) ** (1 / temperature)
    totals = powers.sum(axis=1, keepdims=True)
    calibrated = np.divide(powers, totals, out=powers, where=totals > 0).astype(np.float32)
    answer = scores.argmax(axis=1)
    # A high temperature rounds near ties to ties, of which argmax takes the first.
    tied = np.flatnonzero(calibrated.argmax(axis=1) != answer)
    calibrated[tied, answer[tied]] = np.nextafter(calibrated[tied].max(axis=1), np.float32(1))
    return calibrated


def wilson_interval(n_right: int, n: int) -> tuple[float, float]:
    """Give the 95 % interval of a share that was counted (Wilson 1927), honest for small counts and for shares near 1.

    Parameters
    ----------
    n_right : int
        0 to ``n``.
    n : int

    Returns
    -------
    tuple of float
        The ends, in 0-1; all of 0-1 where nothing was counted.
    """
    if not n:
        return 0.0, 1.0
    share, doubt = n_right / n, Z_95**2 / n
    centre = (share + doubt / 2) / (1 + doubt)
    half = sqrt(doubt * (share * (1 - share) + doubt / 4)) / (1 + doubt)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def average(scores: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the probabilities of two classifiers: they err on different images, and the mean on fewer.

    Parameters
    ----------
    scores, others : ndarray of shape (n_images, n_classes), float32, in 0-1

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
    """
    return (scores + others) / np.float32(2)


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], n_bins: int = 10) -> "pd.DataFrame":
    """Compare how sure answers are with how often they are right, in bins of equal width.

    Parameters
    ----------
    confidence : ndarray of shape (n_samples,), in 0-1
        The probability of each answer.
    right : ndarray of shape (n_samples,), bool
        Whether it was the label.
    n_bins : int
        1 or more.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``low`` (excluded but for 0) and ``high`` (included), ``n``, mean ``confidence`` and
        ``accuracy``, all but ``n`` in 0-1; the means of an empty bin are NaN.
    """
    import pandas as pd

    edges = np.linspace(0, 1, n_bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    n = np.bincount(place, minlength=n_bins)
    members = np.where(n, n, np.nan)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "confidence": np.bincount(place, confidence, n_bins) / members,
            "accuracy": np.bincount(place, right, n_bins) / members,
        }
    ).round({"low": 6, "high": 6})


def expected_calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_], n_bins: int = 10) -> float:
    """Average the distance between confidence and accuracy over the bins of ``reliability``, weighted by their counts.

    Parameters
    ----------
    confidence : ndarray of shape (n_samples,), in 0-1
    right : ndarray of shape (n_samples,), bool
    n_bins : int
        1 or more.

    Returns
    -------
    float
        In 0-1; NaN where there is no answer.
    """
    if not len(confidence):
        return float("nan")
    table = reliability(confidence, right, n_bins)
    return float((table["n"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(confidence))


def draw_reliability(table: "pd.DataFrame", title: str) -> "Figure":
    """Draw a reliability diagram over the counts that it rests on.

    Parameters
    ----------
    table : pandas.DataFrame
        Of ``reliability``.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Accuracy by confidence with the 95 % intervals of ``wilson_interval``, the diagonal of a model whose
        confidence holds, and below how many answers are in each bin.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    middle, width = 100 * (table["low"] + table["high"]) / 2, 92 * (table["high"] - table["low"])
    filled = table["n"] > 0
    count, accuracy = table["n"][filled], table["accuracy"][filled]
    interval = np.array([wilson_interval(round(share * n), n) for share, n in zip(accuracy, count, strict=True)])
    upper.bar(
        middle, 100 * table["accuracy"].fillna(0), width, color="#9ecae1", label="accuracy, with its 95 % interval"
    )
    upper.vlines(middle[filled], *100 * interval.reshape(-1, 2).T, color="black", linewidth=1)
    upper.plot([0, 100], [0, 100], color="C1", linestyle="--", label="as often right as sure")
    upper.set(xlim=(0, 100), ylim=(0, 104), ylabel="answered correctly, %", xticks=range(0, 101, 10))
    upper.set_title(title, pad=26)
    upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    bars = lower.bar(middle, table["n"], width, color="0.6")
    lower.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
    lower.set(ylim=(0, 1.25 * max(table["n"].max(), 1)), xlabel="confidence, %", ylabel="answers")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
