"""The pipeline under DVC, against the stages' own work: the difference is what DVC, shells and imports add.

Each in a clone of the last commit. The default runs on an empty cache; another percentile, and nothing changed, on a
copy of the project's cache, which holds the default run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

from benchmarks.common import PROJECT, Measurement, System

CHANGES = ("default", "percentile", "nothing")
OWN_WORK = "the stages alone"


@contextmanager
def clone(*, with_cache: bool) -> Iterator[Path]:
    """Clone the project with a DVC cache of its own, beside the interpreter that runs this."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), scratch], check=True)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        if with_cache:
            # The files, not the record of earlier runs, which could spare a stage that is to be timed.
            shutil.copytree(PROJECT / ".dvc" / "cache" / "files", folder / ".dvc" / "cache" / "files")
            call(folder, "dvc checkout")
        yield folder


def call(folder: Path, command: str) -> str:
    """Run a shell command quietly and give its standard output."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


def raise_percentile(folder: Path) -> None:
    """Change the percentile a little, so that the stages' work stays the same."""
    file = folder / "params.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["percentile"] += 1
    file.write_text(yaml.safe_dump(settings, sort_keys=False))


def measure_repro(change: str) -> Measurement:
    """Time ``dvc repro``."""
    measurement = Measurement()
    with clone(with_cache=change != "default") as folder:
        if change == "percentile":
            raise_percentile(folder)
        # Git brings the metrics and plots, with which evaluate would count as done.
        force = "--force" if change == "default" else ""
        with measurement.clock():
            call(folder, f"dvc repro {force}")
    return measurement


def measure_own_work(change: str) -> Measurement:
    """Time the same commands without DVC, each from after its imports to its end."""
    measurement = Measurement()
    with clone(with_cache=True) as folder:
        stages = set(yaml.safe_load((folder / "dvc.lock").read_text())["stages"])
        if change == "percentile":
            raise_percentile(folder)
            stages = set(re.findall(r"^Running stage '(.+)':", call(folder, "dvc repro"), re.MULTILINE))
        locked = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
        # dvc.lock lists the stages in the order in which they ran first.
        for stage in locked:
            if stage in stages:
                output = call(folder, locked[stage]["cmd"].replace("-m stages.", "-m benchmarks.own_work stages."))
                measurement.seconds += float(output.splitlines()[-1])
    return measurement


SYSTEMS = [
    *(System(f"pipeline-{change}", "dvc repro", partial(measure_repro, change)) for change in CHANGES),
    *(System(f"pipeline-{change}", OWN_WORK, partial(measure_own_work, change)) for change in CHANGES[:2]),
]
