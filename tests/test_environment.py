"""A stage runs in the project's environment wherever DVC runs it, with the parameters that DVC tracks, or it stops."""

import os
import subprocess
import sys
import time
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, get_origin

import pytest
import yaml

from tests.conftest import PROJECT, Clone

STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
# It checks all parameters, and no single one is its own.
WITH_PARAMETERS = [name for name in STAGES if name != "check-parameters"]


@pytest.mark.parametrize("stage", WITH_PARAMETERS)
def test_a_stage_takes_the_parameters_that_its_graph_says(stage: str) -> None:
    arguments = signature(import_module(f"stages.{stage.replace('-', '_')}").main).parameters
    taken = {
        name.replace("__", ".") for name, each in arguments.items() if get_origin(each.annotation) is not Annotated
    }
    assert taken == set(STAGES[stage].get("params", []))


def test_another_python_says_what_it_lacks() -> None:
    # Without site, this very interpreter has no package at all.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.kmeans"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("kmeans: ")
    assert "has faiss-cpu not at all, requirements.txt says" in done.stderr


def test_another_release_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    (tmp_path / "numpy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    done = subprocess.run(
        [sys.executable, "-m", "stages.kmeans"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("kmeans: ")
    assert "has numpy 1.0, requirements.txt says" in done.stderr


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "python").write_bytes((PROJECT / "tools" / "python").read_bytes())
    done = subprocess.run(
        ["/bin/sh", str(tmp_path / "tools" / "python"), "-V"],
        env={"PATH": str(only_tools(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127
    assert done.stderr.startswith("tools/python: no Python;")


def only_tools(folder: Path) -> Path:
    """Make a folder for PATH that has what the script calls, and no Python."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "dirname").symlink_to("/usr/bin/dirname")
    return tools


def test_a_temporary_experiment_finds_the_environment_that_nobody_activated(clone: Clone) -> None:
    (clone.path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        # Up to the training set, which is enough to tell whose Python runs.
        [".venv/bin/dvc", "exp", "run", "--temp", "--name", "apart", "-S", "percentile=50", "propagate"],
        cwd=clone.path,
        env={"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "apart" in clone.sh("dvc exp list --name-only")


def test_a_queue_runs_two_experiments_at_once(clone: Clone) -> None:
    clone.sh("dvc exp run --queue -S percentile=0")
    clone.sh("dvc exp run --queue -S percentile=50")
    clone.sh("dvc queue start --jobs 2")
    deadline = time.monotonic() + 240
    while (status := clone.sh("dvc queue status")).count("Success") < 2:
        assert "Failed" not in status
        assert time.monotonic() < deadline, status
        time.sleep(2)
    assert len(clone.sh("dvc exp list --name-only").split()) == 2
    assert clone.git("status", "--porcelain") == ""
