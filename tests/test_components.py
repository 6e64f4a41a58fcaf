"""Principal components from sums over blocks are the exact ones."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from few_labels import components as module
from few_labels.components import fit_components


@pytest.mark.parametrize(("n_samples", "n_features", "n_components"), [(300, 40, 10), (300, 40, 40), (25, 60, 12)])
def test_they_are_those_of_scikit_learn(
    n_samples: int, n_features: int, n_components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    X = draw(n_samples, n_features)
    found, expected = fit_components(X, n_components), PCA(n_components, svd_solver="full").fit(X)
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-5)
    np.testing.assert_allclose(found.variance, expected.explained_variance_, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(np.abs(found.transform(X)), np.abs(expected.transform(X)), atol=1e-3)
    assert {found.mean.dtype, found.directions.dtype, found.transform(X).dtype} == {np.dtype(np.float32)}


def test_the_sign_of_a_component_is_settled() -> None:
    X = draw(200, 30)
    directions = fit_components(X, 8).directions
    assert (directions[np.arange(8), np.abs(directions).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(fit_components(-X, 8).directions, directions, atol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 5, 50])
def test_rows_that_are_all_alike_have_no_spread(n_samples: int) -> None:
    X = np.full((n_samples, 9), 0.25, np.float32)
    found = fit_components(X, min(n_samples, 3))
    assert found.variance.tolist() == [0.0] * min(n_samples, 3)
    assert not found.transform(X).any()


def draw(n_samples: int, n_features: int) -> NDArray[np.float32]:
    """Draw rows that spread less and less along their features, away from the origin."""
    widths = np.linspace(3, 0.5, n_features)
    return (np.random.default_rng(0).normal(size=(n_samples, n_features)) * widths + 5).astype(np.float32)
