"""Scores agree with what is known of the sizes of the classes, and say the rest as before."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from few_labels.class_prior import match_prior, resolve_prior
from few_labels.errors import InputError
from tests.conftest import Clone, run_stage


@pytest.fixture
def scores() -> np.ndarray:
    """Four hundred images, most of which look like the first of three classes."""
    return np.random.default_rng(0).dirichlet([4, 1, 0.5], 400).astype(np.float32)


@pytest.mark.parametrize("prior", [[1 / 3, 1 / 3, 1 / 3], [0.2, 0.1, 0.7]])
def test_the_classes_get_their_shares(scores: np.ndarray, prior: list[float]) -> None:
    matched = match_prior(scores, np.array(prior))
    assert matched.dtype == np.float32
    np.testing.assert_allclose(matched.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(matched.mean(axis=0), prior, atol=1e-4)


def test_one_factor_scales_a_class(scores: np.ndarray) -> None:
    matched = match_prior(scores, np.full(3, 1 / 3))
    odds = (matched[:, 1] / matched[:, 0]) / (scores[:, 1] / scores[:, 0])
    np.testing.assert_allclose(odds, odds[0], rtol=1e-3)
    assert odds[0] > 2


def test_shares_that_agree_already_change_nothing(scores: np.ndarray) -> None:
    np.testing.assert_allclose(match_prior(scores, scores.mean(axis=0, dtype=float)), scores, atol=1e-5)


def test_an_image_is_trusted_as_far_as_before(scores: np.ndarray) -> None:
    trust = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
    matched = match_prior(trust * scores, np.full(3, 1 / 3))
    assert not matched[0].any()
    np.testing.assert_allclose(matched.sum(axis=1), trust[:, 0], rtol=1e-5)
    np.testing.assert_allclose((matched[1:] / trust[1:]).mean(axis=0), 1 / 3, atol=1e-4)


def test_a_class_that_nobody_was_asked_about_gets_nothing(scores: np.ndarray) -> None:
    scores[:, 2] = 0
    matched = match_prior(scores, np.array([0.3, 0.3, 0.4]))
    assert not matched[:, 2].any()
    # The other two share in it, by what they have.
    np.testing.assert_allclose((matched / matched.sum(axis=1, keepdims=True)).mean(axis=0), [0.5, 0.5, 0], atol=1e-4)


def test_sure_scores_that_cannot_agree_stay_what_they_are() -> None:
    sure = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    np.testing.assert_array_equal(match_prior(sure, np.array([0.5, 0.5])), sure)


def test_nothing_reached_is_nothing() -> None:
    assert not match_prior(np.zeros((5, 3), np.float32), np.full(3, 1 / 3)).any()


def test_what_is_known_is_a_share_for_each_class() -> None:
    names = ["cat", "dog", "emu", "fox"]
    assert resolve_prior("none", names) is None
    np.testing.assert_allclose(resolve_prior("uniform", names), 0.25)  # type: ignore[arg-type]
    np.testing.assert_allclose(resolve_prior([0.1, 0.2, 0.3, 0.4], names), [0.1, 0.2, 0.3, 0.4])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class_prior has 2 shares, allowed are 4, one a class: cat, dog, emu, fox"):
        resolve_prior([0.5, 0.5], names)
    with pytest.raises(InputError, match=r"class_prior adds up to 1\.100, allowed is 1"):
        resolve_prior([0.1, 0.2, 0.3, 0.5], names)


def test_the_run_takes_what_is_known(recipe_run: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to be half of the images, a class takes more of them than where all are known to be alike."""
    clone = recipe_run.copy_to(tmp_path / "clone")
    monkeypatch.chdir(clone.path)

    def count_labels() -> pd.Series:
        return pd.read_csv("data/training_set.csv")["label"].value_counts().reindex(range(10))

    alike = count_labels()
    run_stage(
        "propagate", "--set", "propagate.class_prior=[0.46, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06]"
    )
    assert count_labels()[0] > 1.5 * alike[0]
    clone.set_params({"propagate.class_prior": [0.5, 0.5]})
    assert "refine: propagate.class_prior has 2 shares, allowed are 10" in clone.dvc("repro", "propagate", check=False)
