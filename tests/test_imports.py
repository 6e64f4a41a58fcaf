"""No stage pays for TensorFlow that does not run a network."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "stage",
    [
        "download",
        "embed",
        "kmeans",
        "featurize",
        "select_labels",
        "refine",
        "propagate",
        "train_logreg",
        "evaluate",
    ],
)
def test_the_stage_does_not_import_tensorflow(stage: str) -> None:
    script = f"import sys, stages.{stage}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("stage", ["select_labels", "refine", "propagate", "evaluate"])
def test_the_default_pays_for_no_method_that_it_does_not_use(stage: str) -> None:
    script = f"import sys, stages.{stage}; sys.exit(bool({{'faiss', 'sklearn'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
