"""Multinomial logistic regression, fast: fitted on principal components of the features.

Centring takes away the direction that makes the problem ill-conditioned, the components that are left out hold little
but noise, and shrinking the leading ones evens out what remains: L-BFGS needs a fraction of the iterations, and each
costs a fraction. The coefficients are turned back, so the model answers for features as they are.

With a kernel its borders are curved (Zhu and Hastie 2005, "Kernel logistic regression and the import vector machine"):
what it is fitted on is how like images are to those whose label is known, as `few_labels.kernel_map` has it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from few_labels.artifacts import LabelledImages
from few_labels.blocks import fits, make_rows, map_blocks, map_partitions, run_blocks, run_partitions
from few_labels.components import Components, fit_components
from few_labels.errors import require_several_classes
from few_labels.folds import N_FOLDS, cut_folds
from few_labels.kernel_map import KernelMap, fit_kernel_map
from few_labels.parameters import Kernel
from few_labels.stored import Rows, Stored

N_COMPONENTS = 300
ROWS_AT_ONCE = 4096
# In squared pixel units. A component of this variance is shrunk to 1 / sqrt(2), one of much less hardly at all; of
# pixels only the first two have more, of distances to hundreds of centroids the leading ones have far more.
SHRUNK_VARIANCE = 10.0
# Folds share them, and a few hundred labels cannot place more: 50 to 300 find as many errors.
N_FOLD_COMPONENTS = 100
# More gain little once they stand for all that was bought, and cost in proportion.
N_LANDMARKS = 2048


def train(
    X: NDArray[np.float32],
    y: NDArray[np.integer],
    *,
    weight: NDArray[np.float32] | None = None,
    C: float,
    max_iter: int,
    seed: int | None = None,
) -> LogisticRegression:
    """Fit multinomial logistic regression with an L2 penalty.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), integer
    weight : ndarray of shape (n_samples,), float32, or None
        How much each sample counts; None counts all alike.
    C : float
        Inverse of the regularisation strength, greater than 0, which the shrinking raises along leading components.
    max_iter : int
        L-BFGS iterations at most. Stopping short of convergence is a choice here, not a mistake: it costs no accuracy.
    seed : int or None
        What the model is to record as its ``random_state``; L-BFGS draws nothing.

    Returns
    -------
    sklearn.linear_model.LogisticRegression
        For rows like those of ``X``.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    classes, position = np.unique(y, return_inverse=True)
    require_several_classes(len(classes))
    components = fit_components(X, min(N_COMPONENTS, *X.shape))
    rotation = _shrink(components)
    projected = X @ rotation - components.mean @ rotation
    classifier = LogisticRegression(C=C, max_iter=max_iter, random_state=seed)
    return _turn_back(_fit(classifier, projected, classes, position, weight), components)


def train_on(
    X: Rows,
    labelled: LabelledImages,
    *,
    kernel: Kernel = "none",
    C: float,
    max_iter: int,
    seed: int | None = None,
    scratch: Path | None = None,
) -> LogisticRegression | Pipeline:
    """Fit logistic regression on the labelled ones of many rows, with a kernel or, as `train` does, without.

    More rows than fit in memory are never held together: L-BFGS asks for sums over partitions, of the loss and of its
    gradient.

    Parameters
    ----------
    X : ndarray or Stored of shape (n_images, n_features), float32
        Also those without a label say in which space a kernel compares.
    labelled : LabelledImages
        Which rows to learn from, the class of each and how much it counts.
    kernel : str
        ``none`` or ``rational-quadratic``.
    C, max_iter, seed : float, int, int or None
        As in `train`.
    scratch : Path, optional
        Where the components of many rows are kept meanwhile, as all who compute see it; without, they are in memory.

    Returns
    -------
    sklearn.linear_model.LogisticRegression or sklearn.pipeline.Pipeline
        For rows like those of ``X``; with a kernel the second step, after a `few_labels.kernel_map.KernelMap`.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    n_labelled, n_features = len(labelled.index), X.shape[1]
    if kernel == "none" and (not isinstance(X, Stored) or fits((n_labelled, n_features))):
        rows = X[labelled.index]
        return train(rows, labelled.label, weight=labelled.weight, C=C, max_iter=max_iter, seed=seed)
    classes, position = np.unique(labelled.label, return_inverse=True)
    require_several_classes(len(classes))
    classifier = LogisticRegression(C=C, max_iter=max_iter, random_state=seed)
    if kernel == "none":
        components = fit_components(X, min(N_COMPONENTS, n_features), among=_tell_among(X, labelled))
        rotation = _shrink(components)
        projected = _project(partial(_project_rows, components.mean, rotation), X, labelled, rotation.shape[1], scratch)
        return _turn_back(_fit(classifier, projected, classes, position, labelled.weight), components)
    likeness = fit_kernel_map(X, choose_landmarks(labelled))
    mean, whitening = likeness.transform_landmarks().mean(axis=0), likeness.whiten()
    project = partial(_project_likeness, likeness, mean, whitening)
    projected = _project(project, X, labelled, len(mean), scratch)
    _fit(classifier, projected, classes, position, labelled.weight)
    classifier.coef_ = classifier.coef_ @ whitening.T
    classifier.intercept_ = classifier.intercept_ - classifier.coef_ @ mean
    classifier.n_features_in_ = len(mean)
    return make_pipeline(likeness, classifier)


def choose_landmarks(labelled: LabelledImages) -> NDArray[np.int64]:
    """Choose the images that others are compared with: those of the largest weight, and evenly among equal ones.

    Bought labels weigh most, so they come before spread ones.

    Parameters
    ----------
    labelled : LabelledImages

    Returns
    -------
    ndarray of shape (n_landmarks,), int64
        Ascending rows, N_LANDMARKS at most.
    """
    n_labelled = len(labelled.index)
    if n_labelled <= N_LANDMARKS:
        return labelled.index
    weight = np.ones(n_labelled) if labelled.weight is None else labelled.weight
    smallest = np.partition(weight, n_labelled - N_LANDMARKS)[n_labelled - N_LANDMARKS]
    larger, equal = np.flatnonzero(weight > smallest), np.flatnonzero(weight == smallest)
    n_equal = N_LANDMARKS - len(larger)
    evenly = equal[np.arange(n_equal) * len(equal) // n_equal]
    return np.sort(labelled.index[np.concatenate([larger, evenly])])


def _project(
    project: Callable[..., NDArray[np.float32]], X: Rows, labelled: LabelledImages, width: int, scratch: Path | None
) -> Rows:
    """Give what a function makes of the labelled rows."""
    if not isinstance(X, Stored):
        rows = X[labelled.index]
        return project(rows, np.ones(len(rows), bool))
    projected = make_rows(len(labelled.index), width, scratch)
    filled = 0
    for some in map_partitions(project, X, _tell_among(X, labelled), title="components of labelled images"):
        projected[filled : filled + len(some)] = some
        filled += len(some)
    return projected


def _tell_among(X: Rows, labelled: LabelledImages) -> NDArray[np.bool_]:
    """Tell which rows are labelled."""
    among = np.zeros(len(X), bool)
    among[labelled.index] = True
    return among


def _fit(
    classifier: LogisticRegression,
    X: Rows,
    classes: NDArray[np.integer],
    position: NDArray[np.integer],
    weight: NDArray[np.float32] | None,
) -> LogisticRegression:
    """Fit a classifier as scikit-learn would, by blocks of rows: ``position`` says which of the classes each is of."""
    weight = np.ones(len(X), np.float32) if weight is None else weight
    total_weight = weight.sum(dtype=np.float64)
    penalty = 1 / (classifier.C * total_weight)
    # Of two classes the first one's are zero.
    shape = (len(classes) if len(classes) > 2 else 1, X.shape[1] + 1)

    def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        coefficients = flat.reshape(shape)
        loss, gradient = 0.0, np.zeros(shape)
        for some in map_partitions(partial(_sum_losses, coefficients), X, position, weight):
            loss += some[0]
            gradient += some[1]
        loss, gradient = loss / total_weight, gradient / total_weight
        gradient[:, :-1] += penalty * coefficients[:, :-1]
        return loss + penalty / 2 * np.square(coefficients[:, :-1]).sum(), gradient.ravel()

    # As scikit-learn calls it.
    options = {"maxiter": classifier.max_iter, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    found = optimize.minimize(evaluate, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B", options=options)
    solution = found.x.reshape(shape).astype(np.float32)
    classifier.coef_, classifier.intercept_ = solution[:, :-1], solution[:, -1]
    classifier.classes_, classifier.n_iter_ = classes, np.array([found.nit], np.int32)
    return classifier


def _shrink(components: Components) -> NDArray:
    """Give the directions of components as columns, the leading ones shorter."""
    return components.directions.T / np.sqrt(1 + components.variance / SHRUNK_VARIANCE).astype(np.float32)


def _turn_back(classifier: LogisticRegression, components: Components) -> LogisticRegression:
    """Have a classifier of shrunk components answer for the rows that they are the components of."""
    classifier.coef_ = classifier.coef_ @ _shrink(components).T
    classifier.intercept_ = classifier.intercept_ - classifier.coef_ @ components.mean
    classifier.n_features_in_ = len(components.mean)
    return classifier


def _project_rows(
    mean: NDArray[np.float32], rotation: NDArray[np.float32], X: NDArray[np.float32], among: NDArray[np.bool_]
) -> NDArray[np.float32]:
    return X[among] @ rotation - mean @ rotation


def _project_likeness(
    likeness: KernelMap,
    mean: NDArray[np.float32],
    whitening: NDArray[np.float32],
    X: NDArray[np.float32],
    among: NDArray[np.bool_],
) -> NDArray[np.float32]:
    rows = X[among]
    projected = np.empty((len(rows), len(mean)), np.float32)

    def project(some: slice) -> None:
        np.matmul(likeness.compare(rows[some]) - mean, whitening, out=projected[some])

    run_blocks(project, len(rows), ROWS_AT_ONCE)
    return projected


def _sum_losses(
    coefficients: NDArray[np.float64],
    X: NDArray[np.float32],
    position: NDArray[np.integer],
    weight: NDArray[np.float32],
) -> tuple[float, NDArray[np.float64]]:
    """Sum the weighted cross-entropy of rows, and its gradient; the last coefficient of each class is its intercept."""
    slope, intercept = coefficients[:, :-1].T.astype(np.float32), coefficients[:, -1].astype(np.float32)

    def sum_some(rows: slice) -> tuple[float, NDArray[np.float64]]:
        logit = X[rows] @ slope + intercept
        if len(coefficients) == 1:
            logit = np.hstack([np.zeros_like(logit), logit])
        logit -= logit.max(axis=1, keepdims=True)
        residual = np.exp(logit)
        total = residual.sum(axis=1, keepdims=True)
        residual /= total
        own = np.arange(len(logit)), position[rows]
        loss = (weight[rows] * (np.log(total[:, 0]) - logit[own])).sum(dtype=np.float64)
        residual[own] -= 1
        residual *= weight[rows, None]
        residual = residual[:, -len(coefficients) :]
        return loss, np.column_stack([residual.T @ X[rows], residual.sum(axis=0, dtype=np.float64)])

    loss, gradient = 0.0, np.zeros(coefficients.shape)
    for some in map_blocks(sum_some, len(X), ROWS_AT_ONCE):
        loss += some[0]
        gradient += some[1]
    return loss, gradient


def score(classifier: LogisticRegression | Pipeline, X: Rows, n_classes: int) -> NDArray[np.float32]:
    """Give the probability of each class, 0 for one that the training set did not have.

    Parameters
    ----------
    classifier : LogisticRegression or Pipeline
        As `train_on` gives it.
    X : ndarray or Stored of shape (n_samples, n_features), float32
    n_classes : int

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32, in 0-1
    """
    scores = np.zeros((len(X), n_classes), np.float32)
    if len(X):
        run_partitions(partial(_score_rows, classifier, n_classes), X, out=scores, title="scores")
    return scores


def _score_rows(
    classifier: LogisticRegression | Pipeline, n_classes: int, X: NDArray[np.float32]
) -> NDArray[np.float32]:
    scores = np.zeros((len(X), n_classes), np.float32)
    if isinstance(classifier, LogisticRegression):
        scores[:, classifier.classes_] = classifier.predict_proba(X)
        return scores

    likeness, linear = (step for _, step in classifier.steps)

    def score_some(rows: slice) -> None:
        scores[rows, linear.classes_] = linear.predict_proba(likeness.compare(X[rows]))

    # By blocks, since likenesses are many times as many numbers as features.
    run_blocks(score_some, len(X), ROWS_AT_ONCE)
    return scores


def out_of_fold(
    X: NDArray[np.float32],
    y: NDArray[np.unsignedinteger],
    n_classes: int,
    *,
    kernel: Kernel = "none",
    C: float,
    max_iter: int,
    seed: int,
    n_folds: int = N_FOLDS,
    weight: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Give each sample the probabilities of logistic regression that was not shown the sample's label.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), unsigned integer
        Classes 0 to ``n_classes - 1``.
    n_classes : int
    kernel : str
        As in `train_on`.
    C : float
        Inverse of the regularisation strength, greater than 0.
    max_iter : int
        L-BFGS iterations at most.
    seed : int
        Shuffles the folds.
    n_folds : int
        2 or more; fewer are made where no class has that many members.
    weight : ndarray of shape (n_samples,), float32, or None
        How much each sample counts in training; None counts all alike.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float32, in 0-1
        A row is all zeros where the other folds cannot judge its label: they have no member of that class, or no second
        class.
    """
    scores = np.zeros((len(y), n_classes), np.float32)
    folds = list(cut_folds(y, seed=seed, n_folds=n_folds))
    if not folds:
        return scores

    # No label goes into the components, so one set serves all folds and tells none of its answers.
    components = fit_components(X, min(N_FOLD_COMPONENTS, *X.shape)).transform(X)
    for shown, judged in folds:
        labelled = LabelledImages(shown, y[shown], None if weight is None else weight[shown])
        classifier = train_on(components, labelled, kernel=kernel, C=C, max_iter=max_iter, seed=seed)
        scores[judged] = score(classifier, components[judged], n_classes)
    return scores
