"""Run the committed pipeline in a clone inside DVC's own folder, beside the workspace and without touching it."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, rmtree

import yaml

from few_labels.parameters import AllParameters
from stages import read_parameters
from tools.git import git

OWN_IMAGES = Path("data/own")


def check_out(clone: Path) -> None:
    """Bring a clone of this project to what is committed here, made where there is none, with images of one's own.

    Parameters
    ----------
    clone : Path
        On the file system of this project: images are linked.
    """
    if not (clone / ".git").exists():
        git("clone", "--quiet", "--no-checkout", ".", str(clone))
    git("-C", str(clone), "fetch", "--quiet", "origin", "HEAD")
    git("-C", str(clone), "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    if OWN_IMAGES.is_dir():
        rmtree(clone / OWN_IMAGES, ignore_errors=True)
        copytree(OWN_IMAGES, clone / OWN_IMAGES, copy_function=os.link)


def share_cache(clone: Path) -> None:
    """Have a clone keep what it makes in the cache of this project, and find there what was made before."""
    (clone / ".dvc/config.local").write_text(f"[cache]\n    dir = {Path('.dvc/cache').resolve()}\n")


def write_parameters(clone: Path, settings: dict[str, str]) -> AllParameters:
    """Give a clone the parameters that this project has, but for some settings.

    Parameters
    ----------
    clone : Path
    settings : dict
        Values as they are written in YAML, by the name that the parameter has in params.yaml.

    Returns
    -------
    AllParameters
        All that it has now.

    Raises
    ------
    InputError
        If a value is not allowed.
    """
    parameters = read_parameters([Path("params.yaml")], [f"{name}={value}" for name, value in settings.items()])
    (clone / "params.yaml").write_text(yaml.safe_dump(parameters.model_dump(mode="json"), sort_keys=False))
    return parameters


def reproduce(clone: Path, *targets: str) -> None:
    """Run ``dvc repro`` in a clone; raise `subprocess.CalledProcessError` where a stage fails.

    Parameters
    ----------
    clone : Path
    *targets : str
        Stages, with what they need; all without.
    """
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    subprocess.run(command, cwd=clone, env=make_environment(), check=True)


def make_environment() -> dict[str, str]:
    """Give the environment of dvc in a clone, which has no .venv: stages fall back on the one that is active."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
