"""A table of timings says by a hash whether it is of the code as it is."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import code
from benchmarks.code import hash_code, name_module, name_stale
from tests.conftest import PROJECT


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a few modules, which import one another: its folder."""
    for path, source in {
        "benchmarks/slow.py": "from stages import work",
        "benchmarks/pipeline.py": "",
        "stages/__init__.py": "",
        "stages/work.py": "def f():\n    import few_labels.deep",
        "stages/other.py": "",
        "few_labels/deep.py": "import numpy",
        "few_labels/idle.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    monkeypatch.setattr(code, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "slow", "pipeline"),
    [
        ("benchmarks/slow.py", True, False),
        ("stages/work.py", True, True),
        ("few_labels/deep.py", True, True),
        ("stages/other.py", False, True),
        ("few_labels/idle.py", False, False),
    ],
)
def test_a_case_is_stale_when_what_it_times_changes(small: Path, file: str, slow: bool, pipeline: bool) -> None:
    known = {"slow-first": hash_code("slow"), "pipeline-all": hash_code("pipeline")}
    assert name_stale(known) == []
    with (small / file).open("a") as source:
        source.write("\n# another line")
    code.list_imported.cache_clear()
    assert name_stale(known) == ["slow-first"] * slow + ["pipeline-all"] * pipeline


def test_a_case_is_stale_when_a_parameter_changes(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"slow-first": hash_code("slow")}
    monkeypatch.setattr(code, "params", lambda: {"seed": 7})
    assert name_stale(known) == ["slow-first"]


def test_every_case_of_the_table_has_its_module() -> None:
    for case in pd.read_csv(PROJECT / "metrics" / "bench.csv")["case"]:
        assert (PROJECT / "benchmarks" / f"{name_module(case)}.py").is_file()
    assert name_module("study-logreg") == "study_logreg"
