"""A table of timings says by a hash whether it is of the code as it is; many images are made of few."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import code, common, kmeans, logreg, many_images, neighbours, nn, scaling, study_logreg
from benchmarks.code import hash_code, name_module, name_stale
from benchmarks.many_images import LARGEST_NOISE, LARGEST_SHIFT, make_blocks, write_idx
from few_labels.artifacts import save_array
from stages.download import read_idx
from tests.conftest import PROJECT
from tools.code import list_imported


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
    list_imported.cache_clear()
    assert name_stale(known) == ["slow-first"] * slow + ["pipeline-all"] * pipeline


def test_a_case_is_stale_when_a_parameter_changes(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"slow-first": hash_code("slow")}
    monkeypatch.setattr(code, "params", lambda: {"seed": 7})
    assert name_stale(known) == ["slow-first"]


@pytest.fixture
def few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the cases read, of few and small images: its folder."""
    (tmp_path / "data").mkdir()
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    rng = np.random.default_rng(0)
    kinds, label = rng.integers(0, 200, (10, 9, 9, 1)), np.arange(200) % 10
    for part in ("train", "test"):
        images = kinds[label] + rng.integers(0, 50, (200, 9, 9, 1))
        save_array(tmp_path / f"data/{part}_images.npy", images.astype(np.uint8))
        save_array(tmp_path / f"data/{part}_labels.npy", label.astype(np.int16))
    monkeypatch.setattr(common, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("few_images")
def test_ours_is_what_the_stages_do_with_the_parameters_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_logreg, "N_CENTROIDS", (10, 20, 30))
    monkeypatch.setattr(study_logreg, "N_FIRST", (50, 100))
    monkeypatch.setattr(study_logreg, "N_REPRESENTATIVES", 40)

    assert float(logreg.measure(logreg.ours).quality) > 0.9
    assert float(study_logreg.measure_ours().quality) > 0.9
    assert float(kmeans.measure(kmeans.ours, 20).quality) > 0
    assert float(neighbours.measure(neighbours.ours).quality) > 0.9
    assert [measure(300, 30).quality for measure in scaling.STAGES.values()] == ["30"] * 3


def test_epochs_are_as_many_as_are_timed_however_few_steps_the_pipeline_takes(few_images: Path) -> None:
    parameters = (PROJECT / "params.yaml").read_text()
    (few_images / "params.yaml").write_text(re.sub(r"max_steps: \d+", "max_steps: 1", parameters))
    one, three = (int(nn.fit_ours(n_epochs).optimizer.iterations) for n_epochs in (1, 3))
    assert three == 3 * one > 0


def test_every_case_of_the_table_has_its_module() -> None:
    for case in pd.read_csv(PROJECT / "metrics" / "bench.csv")["case"]:
        assert (PROJECT / "benchmarks" / f"{name_module(case)}.py").is_file()
    assert name_module("study-logreg") == "study_logreg"


def test_images_are_made_block_by_block_for_an_idx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_images, "ROWS_AT_ONCE", 8)
    originals = np.random.default_rng(0).integers(0, 256, (5, 9, 9), np.uint8)
    blocks = list(make_blocks(originals, 20))
    assert [len(block) for block in blocks] == [8, 8, 4]
    write_idx(tmp_path / "images", (20, 9, 9), blocks)
    images = read_idx((tmp_path / "images").read_bytes(), "images")
    np.testing.assert_array_equal(images, np.concatenate(blocks))
    for row, image in enumerate(images):
        shifted = [np.roll(originals[row % 5], (down, across), (0, 1)) for down, across in np.ndindex(5, 5)]
        shifted = [np.roll(each, (-LARGEST_SHIFT, -LARGEST_SHIFT), (0, 1)) for each in shifted]
        noise = min((image.astype(int) - each for each in shifted), key=lambda found: np.abs(found).max())
        assert noise.min() == 0
        assert noise.max() < LARGEST_NOISE
