"""What each stage's import costs; quality says whether it loads TensorFlow."""

import subprocess
import sys
from functools import partial

from benchmarks.common import PROJECT, Measurement, System

SCRIPT = """
import sys, time
start = time.perf_counter()
import stages.{stage}
print(time.perf_counter() - start, "with TensorFlow" if "tensorflow" in sys.modules else "without TensorFlow")
"""
STAGES = (
    "download",
    "embed",
    "kmeans",
    "featurize",
    "select_labels",
    "refine",
    "propagate",
    "train_logreg",
    "train_nn",
    "evaluate",
)


def measure(stage: str) -> Measurement:
    """Time one import, in an interpreter that has imported nothing else."""
    script = SCRIPT.format(stage=stage)
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    seconds, quality = done.stdout.split(maxsplit=1)
    return Measurement(float(seconds), quality.strip())


SYSTEMS = [System("imports", stage, partial(measure, stage)) for stage in STAGES]
