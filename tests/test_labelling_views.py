"""What simulated people's labelling costs, and which rows of its tables are made, and made anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study import labelling_views
from study.labelling_views import COSTS, SEEDS, Grade, View, answer_grid, hash_all, make_rows
from study.tabulate_labelling_views import list_tables, read_results
from tests.conftest import PROJECT
from tools.pages import insert

PAGE = PROJECT / "study/labelling_views/README.md"
VIEW = View(1.0, "representative", 20, 4, "nearest", "dear", 0.0)
RUNS = [(20, "grid", VIEW), (50, "grid", VIEW)]


@pytest.mark.parametrize(
    ("cost", "decisions"), [("cheap", 1), ("quarter", 1.5), ("half", 2), ("dear", 3), ("careful", 3.5)]
)
def test_a_grid_costs_a_key_and_what_is_taken_out(cost: str, decisions: float) -> None:
    rest, price = answer_grid(np.array([7, 7, 2, 7, 5], np.int16), COSTS[cost])
    assert rest.tolist() == [True, True, False, True, False]
    assert price == pytest.approx(decisions)


def test_a_row_is_made_once_and_again_by_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    table = tmp_path / "rows.csv"

    def prepare(seed: int) -> Grade:
        def grade(view: View, n_decisions: int) -> dict[str, Any]:
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append((seed, n_decisions))
            return {"labels": n_decisions, "accuracy": 0.5}

        return grade

    with pytest.raises(KeyboardInterrupt):
        make_rows(table, [42, 1], RUNS, prepare)
    assert made == [(42, 20), (42, 50), (1, 20)]
    # What was made before it was stopped is there.
    del made[:2]
    make_rows(table, [42, 1], RUNS, prepare)
    assert made == [(1, 20), (1, 50)]
    rows = pd.read_csv(table)
    assert list(zip(rows["seed"], rows["decisions"], strict=True)) == [(42, 20), (42, 50), (1, 20), (1, 50)]
    assert set(rows["code"]) == {hash_all()}
    made.clear()
    make_rows(table, [42, 1], RUNS, prepare)
    assert not made
    monkeypatch.setattr(labelling_views, "hash_all", lambda: "other code")
    make_rows(table, [42], RUNS, prepare)
    assert made == [(42, 20), (42, 50)]
    assert set(pd.read_csv(table)["code"]) == {"other code"}


def test_its_code_is_what_it_imports_and_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    known = hash_all()
    monkeypatch.setattr(labelling_views, "read_params", lambda: {"kmeans": {}})
    assert hash_all() != known


def test_the_page_shows_the_results_and_says_whether_they_are_those_of_the_code() -> None:
    results, shown = read_results(), PAGE.read_text()
    assert set(results["seed"]) == set(SEEDS)
    for name, table in list_tables(results).items():
        assert shown == insert(shown, name, table)
    codes = set(results.get("code", [""])) | set(pd.read_csv(PAGE.with_name("tuning.csv")).get("code", [""]))
    assert ("made by older code" in " ".join(shown.split())) == (codes != {hash_all()})
