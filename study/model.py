"""Bring one model of the study under study/models/, as ``make model NAME=kmeans_2000`` does.

It comes from DVC's cache or the remote where they have what dvc.lock names, and is made where they do not, with all
that it needs. What else the stages write on the way is taken back then: the seconds that they took are nothing to
commit, and the rest would pass for half a study. DVC's cache keeps it.
"""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import yaml
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from typer import Option

from few_labels.errors import InputError
from stages import run
from tools.runs import FirstError, describe_remote

FOLDER = Path(__file__).parent


def main(
    name: Annotated[str, Option(envvar="NAME", help="a model of rows.yaml; its suffix may be left out")] = "",
) -> None:
    rows = yaml.safe_load((FOLDER / "rows.yaml").read_text(encoding="utf-8"))
    path = FOLDER / "models" / find_file(name, [*rows["rows"], *rows["clusterings"]])
    shown = path.relative_to(FOLDER.parent)
    with Repo(str(FOLDER)) as repo:
        (model,) = repo.find_outs_by_path(str(path))
        with repo.lock:
            lacking = fetch(repo, model)
        outputs = [out for stage in plan_repro(repo.index.graph, [model.stage]) for out in stage.outs]
    if not lacking:
        print(f"{shown}: there, as study/dvc.lock has it")
        return
    print(f"{shown}: {lacking}, so it is made here", flush=True)
    with taken_back([out for out in outputs if out is not model]):
        for folder, stage in ((FOLDER.parent, "download"), (FOLDER, model.stage.name)):
            if subprocess.run([sys.executable, "-m", "dvc", "repro", stage], cwd=folder, check=False).returncode:
                raise SystemExit(f"{shown}: not made, see the stage above; DVC's cache keeps what ran before it")
    same = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == model.hash_info.value
    print(f"{shown}: made, {'the bytes' if same else 'other bytes than those'} that study/dvc.lock names")


def find_file(name: str, files: list[str]) -> str:
    """Give the file of a model that a person names, with its suffix or without.

    Raises
    ------
    InputError
        If there is none; the message lists all.
    """
    by_name = {spelling: file for file in files for spelling in (file, Path(file).stem)}
    if name not in by_name:
        allowed = sorted(Path(file).stem for file in files)
        raise InputError("\n  ".join([f"NAME is {name!r}, allowed are the models of study/rows.yaml:", *allowed]))
    return by_name[name]


def fetch(repo: Repo, model: Output) -> str:
    """Take a model from the cache, or from the default remote into it.

    Parameters
    ----------
    repo : dvc.repo.Repo
        Locked by the caller.
    model : dvc.output.Output

    Returns
    -------
    str
        Nothing, or why it is not to be had.
    """
    if not model.hash_info:
        return "study/dvc.lock does not name it"
    if not repo.cache.local.exists(model.hash_info.value):
        if "remote" not in repo.config["core"]:
            return f"not in DVC's cache, and {describe_remote(repo)}"
        for library in ("dvc", "dvc_data", "dvc_objects"):
            logging.getLogger(library).handlers = [FirstError()]  # what DVC says of a file that is not there
        for remote in repo.config["remote"].values():
            remote["verify"] = True  # models run code when they are loaded
        try:
            repo.cloud.pull([model.hash_info])
        except Exception as error:  # every kind of remote has exceptions of its own
            return f"{describe_remote(repo)} failed ({' '.join(str(error).split())})"
        if not repo.cache.local.exists(model.hash_info.value):
            return f"{describe_remote(repo)} does not have it"
    model.checkout(force=True)
    return ""


@contextmanager
def taken_back(outputs: list[Output]) -> Iterator[None]:
    """Bring dvc.lock and what git holds of the outputs back to what they were, and remove the others that were not."""
    in_git = [FOLDER / "dvc.lock", *(Path(output.fs_path) for output in outputs if not output.use_cache)]
    contents = {path: path.read_bytes() for path in in_git if path.exists()}
    absent = [path for path in (*in_git, *(Path(output.fs_path) for output in outputs)) if not path.exists()]
    try:
        yield
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
        for path in absent:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
