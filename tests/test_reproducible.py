"""The same inputs give the same bytes, and what a kill leaves behind is never taken for a result."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import Clone, clone_project, environment


def test_two_runs_in_two_clones_write_the_same_bytes(small_run: Clone, tmp_path: Path) -> None:
    other = clone_project(tmp_path / "elsewhere")
    copy_inputs(small_run, other)
    assert len(other.repro()) == 10
    assert other.lock() == small_run.lock()


def test_two_runs_of_the_recipe_write_the_same_bytes(recipe_run: Clone, tmp_path: Path) -> None:
    other = clone_project(tmp_path / "elsewhere")
    copy_inputs(recipe_run, other)
    assert len(other.repro()) == 10
    assert other.lock() == recipe_run.lock()


def copy_inputs(run: Clone, other: Clone) -> None:
    """Give another clone what a run's results come from, beside the code."""
    shutil.copy(run.path / "params.yaml", other.path)
    for folder in ("datasets", "labels"):
        shutil.copytree(run.path / folder, other.path / folder, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("name", "value", "stage", "first_output", "and_dvc"),
    [
        ("seed", 7, "kmeans", "models/kmeans.joblib", False),
        ("percentile", 50, "train_nn", "metrics/plots/nn_history/eval/accuracy.tsv", False),
        ("percentile", 50, "train_nn", "metrics/plots/nn_history/eval/accuracy.tsv", True),
    ],
    ids=["kmeans", "train-nn", "train-nn and dvc"],
)
def test_a_killed_stage_leaves_nothing_that_counts(
    clone: Clone, name: str, value: int, stage: str, first_output: str, and_dvc: bool
) -> None:
    """Kill a stage when the first of its outputs stands and the others do not."""
    # From its first output to its end a stage takes some milliseconds: it may be over before the kill, and is run anew.
    assert any(was_killed(clone, {name: value + more}, stage, first_output, and_dvc) for more in range(5))

    ran = clone.repro()
    assert stage.replace("_", "-") in ran
    assert clone.repro() == []
    assert "up to date" in clone.dvc("status")
    assert not list(clone.path.glob("[!.]*/**/*.partial*"))


def was_killed(clone: Clone, settings: dict[str, int], stage: str, first_output: str, and_dvc: bool) -> bool:
    """Run the pipeline, kill a stage once its first output stands, and say whether that came in time."""
    clone.set_params(settings)
    running = subprocess.Popen(
        ["dvc", "repro"],
        cwd=clone.path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    worker = wait_for_output(running.pid, stage, clone.path / first_output)
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if and_dvc:
            os.killpg(running.pid, signal.SIGKILL)
        else:
            worker.kill()
    return running.wait(timeout=60) != 0


def wait_for_output(dvc_pid: int, stage: str, output: Path, seconds: float = 180) -> psutil.Process:
    """Return the process of a running stage at the moment when one of its outputs appears."""
    deadline = time.monotonic() + seconds
    worker = None
    while time.monotonic() < deadline:
        worker = worker or find_worker(dvc_pid, stage)
        # dvc removes the outputs of the run before when it starts a stage.
        if worker is not None and output.exists():
            return worker
        time.sleep(0.001 if worker else 0.05)
    raise TimeoutError(f"{stage} wrote no {output} within {seconds} s")


def find_worker(dvc_pid: int, stage: str) -> psutil.Process | None:
    for child in psutil.Process(dvc_pid).children(recursive=True):
        try:
            if f"stages.{stage}" in child.cmdline():
                return child
        except psutil.Error:
            continue
    return None
