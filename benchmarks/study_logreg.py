"""The study's logistic-regression half from end to end: ten rows of seed-study.yaml, and the clusterings they need.

All labels; distances to 100, 200 and 300 centroids; the first 500, 1000 and 2000 labels; 2000 representatives, alone,
spread over whole clusters, and over the nearest 25 percent of them. Quality is the mean test accuracy of the ten.

The plain script does what the study's method says in scikit-learn and float64, with the solver that is the default of
today in place of one-vs-rest SAGA, which alone would take days: ``KMeans`` from one start, which is today's default,
or the best of ten, as published.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Measurement, System, load, load_pixels, params
from few_labels.artifacts import LabelledImages
from few_labels.logistic_regression import train_on
from few_labels.propagation import spread_over_clusters
from stages.kmeans import describe, fit_kmeans

N_CENTROIDS = (100, 200, 300)
N_FIRST = (500, 1000, 2000)
N_REPRESENTATIVES = 2000
PERCENTILE = 25
# Seconds. Ten starts take about an hour, and the ratio to ours is plain long before.
TEN_STARTS_CAP = 1200


def measure_ours() -> Measurement:
    """Time the ten rows with the functions of the stages."""
    settings = params()
    seed = settings["seed"]
    X, y, X_test, y_test = load_pixels("train"), load("train_labels"), load_pixels("test"), load("test_labels")
    accuracies = []

    def fit_and_grade(features: NDArray, labels: NDArray, test_features: NDArray) -> None:
        labelled = LabelledImages(np.arange(len(labels)), labels)
        classifier = train_on(features, labelled, **settings["train_logreg"], seed=seed)
        accuracies.append(classifier.score(test_features, y_test))

    measurement = Measurement()
    with measurement.clock():
        fit_and_grade(X, y, X_test)
        for k in N_CENTROIDS:
            kmeans = fit_kmeans(X, k, **settings["kmeans"], seed=seed)
            fit_and_grade(kmeans.transform(X), y, kmeans.transform(X_test))
        for n in N_FIRST:
            fit_and_grade(X[:n], y[:n], X_test)
        clustering = describe(fit_kmeans(X, N_REPRESENTATIVES, **settings["kmeans"], seed=seed), X)
        index = np.sort(clustering.representative[clustering.representative >= 0])
        for percentile in (0, 100, PERCENTILE):
            labelled = spread_over_clusters(clustering, LabelledImages(index, y[index]), percentile)
            fit_and_grade(X[labelled.index], labelled.label, X_test)
    measurement.quality = f"{np.mean(accuracies):.4f}"
    return measurement


def measure_plain(n_init: int) -> Measurement:
    """Time the ten rows as a plain script has them."""
    seed = params()["seed"]
    X, X_test = (load(f"{part}_images").reshape(-1, 784) / 255 for part in ("train", "test"))
    y, y_test = load("train_labels"), load("test_labels")
    accuracies = []

    def fit_and_grade(features: NDArray, labels: NDArray, test_features: NDArray) -> None:
        accuracies.append(LogisticRegression(random_state=seed).fit(features, labels).score(test_features, y_test))

    measurement = Measurement()
    with measurement.clock():
        fit_and_grade(X, y, X_test)
        for k in N_CENTROIDS:
            kmeans = KMeans(k, n_init=n_init, random_state=seed).fit(X)
            fit_and_grade(kmeans.transform(X), y, kmeans.transform(X_test))
        for n in N_FIRST:
            fit_and_grade(X[:n], y[:n], X_test)
        kmeans = KMeans(N_REPRESENTATIVES, n_init=n_init, random_state=seed).fit(X)
        distances = kmeans.transform(X)
        nearest = distances.argmin(axis=0)
        fit_and_grade(X[nearest], y[nearest], X_test)
        fit_and_grade(X, y[nearest][kmeans.labels_], X_test)
        own_distance = distances[np.arange(len(X)), kmeans.labels_]
        kept = np.zeros(len(X), bool)
        for cluster in range(N_REPRESENTATIVES):
            members = kmeans.labels_ == cluster
            kept |= members & (own_distance <= np.percentile(own_distance[members], PERCENTILE))
        fit_and_grade(X[kept], y[nearest][kmeans.labels_[kept]], X_test)
    measurement.quality = f"{np.mean(accuracies):.4f}"
    return measurement


SYSTEMS = [
    System("study-logreg", "ours", measure_ours),
    System("study-logreg", "plain script, one start", partial(measure_plain, 1)),
    System("study-logreg", "plain script, best of ten starts", partial(measure_plain, 10), cap=TEN_STARTS_CAP),
]
