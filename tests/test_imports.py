"""No stage pays for TensorFlow that does not run a network."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "stage", ["download", "kmeans", "featurize", "select_labels", "propagate", "train_logreg", "evaluate"]
)
def test_the_stage_does_not_import_tensorflow(stage: str) -> None:
    script = f"import sys, stages.{stage}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
