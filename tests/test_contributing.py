"""The examples of CONTRIBUTING.md are true for the code as it is: each is taken off the page and used."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from few_labels import propagation, query
from few_labels.artifacts import Clustering, LabelledImages, save_clustering
from few_labels.parameters import TrainLogreg
from few_labels.query import Pool
from stages.download import IdxDescription
from tests.conftest import PROJECT
from tests.test_graph import CODE, WITHOUT_EFFECT_ON_RESULTS, imported_modules

PAGE = (PROJECT / "CONTRIBUTING.md").read_text()
CLUSTERING = Clustering(np.array([0, 1, 0, 1], np.int32), np.array([3, 1, 0, 2], np.float32), np.array([2, 1]))


def example(heading: str, language: str) -> str:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found


def run_in(module: Any, source: str) -> dict[str, Any]:
    """Run an example with the names of the module that it is for."""
    names = dict(vars(module))
    exec(source, names)
    return names


def test_the_strategy_asks_as_it_says() -> None:
    outlying = run_in(query, example("A query strategy", "python"))["_outlying"]
    pool = Pool(4, CLUSTERING, None, TrainLogreg(kernel="none", C=1.0, max_iter=1), seed=0)
    known = LabelledImages(np.array([3]), np.array([0], np.uint8))
    assert outlying(pool, known, np.array([True, True, True, False]), 2).tolist() == [0, 1]


def test_the_data_set_is_described_as_the_stage_reads_it() -> None:
    described = IdxDescription(**yaml.safe_load(example("A data set", "yaml")))
    assert len(described.class_names) == 10


def test_the_propagation_method_gives_scores() -> None:
    score = run_in(propagation, example("A propagation method", "python"))["score_by_nearest"]
    X = np.array([[0], [1], [9], [10]], np.float32)
    bought = LabelledImages(np.array([0, 3]), np.array([1, 0], np.uint8))
    scores = score(X, bought, 2)
    np.testing.assert_allclose(scores, np.array([[0, 1], [0, 0.5], [0.5, 0], [1, 0]]))
    assert propagation.keep_surest(scores, bought, 100).label.tolist() == [1, 1, 0, 0]


def test_the_stage_runs_and_depends_on_what_it_imports(tmp_path: Path) -> None:
    module = tmp_path / "count_clusters.py"
    module.write_text(example("A stage", "python"))
    save_clustering(tmp_path / "clustering.npz", CLUSTERING)
    names: dict[str, Any] = {"__name__": "count_clusters"}
    exec(module.read_text(), names)
    names["main"](tmp_path / "clustering.npz", tmp_path / "counts.csv")
    assert pd.read_csv(tmp_path / "counts.csv")["images"].tolist() == [2, 2]

    stage = yaml.safe_load(example("A stage", "yaml"))["count-clusters"]
    needed = imported_modules(str(module)) - {str(module)} - WITHOUT_EFFECT_ON_RESULTS
    code = {dep for dep in stage["deps"] if dep.startswith(CODE)}
    assert code == needed | {"stages/count_clusters.py", "few_labels/kernels.py"}
    named = set(re.findall(r"data/[\w./-]+", stage["cmd"]))
    assert named == {dep for dep in stage["deps"] if dep not in code} | set(stage["outs"])
