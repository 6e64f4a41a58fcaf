"""Read what the pipeline made only when it is what dvc.lock names.

Model files run code when they are loaded, so a file that somebody swapped must not be. dvc.lock is reviewed and
travels with git; the file comes from a remote that may have other owners. What goes with a model, such as the names of
its classes, is held to the same: a swapped list of names would give every answer a wrong one.
"""

import hashlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import yaml

from few_labels.errors import InputError


def load_model(path: Path | str, project: Path | str = ".") -> Any:
    """Load one of the pipeline's models, once its hash is the one in dvc.lock.

    Parameters
    ----------
    path : Path or str
        As dvc.yaml spells it, such as ``models/logreg.joblib``.
    project : Path or str
        The folder of dvc.lock.

    Returns
    -------
    sklearn.base.BaseEstimator or keras.Model
        By suffix: ``.joblib`` or ``.keras``.

    Raises
    ------
    InputError
        If the file may not be loaded, as `read_locked` has it; nothing of the file was executed then.
    """
    return deserialize(path, *read_locked([path], project))


def read_locked(paths: Sequence[Path | str], project: Path | str = ".") -> list[bytes]:
    """Read files that the pipeline made, once they are what dvc.lock says and were made from one another.

    Parameters
    ----------
    paths : sequence of Path or str
        As dvc.yaml spells them. What is used together is read together, by one reading of dvc.lock: the pipeline may
        run in the meantime.
    project : Path or str
        The folder of dvc.lock.

    Returns
    -------
    list of bytes
        The content of each; what was hashed is what is returned, each file is read once.

    Raises
    ------
    InputError
        If a file is missing; if dvc.lock does not name it, or names another hash; or if the stage that made it has not
        run again since one before it did, as when ``dvc repro`` was interrupted.
    """
    try:
        stages = yaml.safe_load((Path(project) / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError as error:
        raise InputError("there is no dvc.lock, so nothing is trained yet: run make repro") from error
    locked = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    maker = {out["path"]: stage for stage in stages.values() for out in stage.get("outs", [])}
    contents = []
    for path in map(str, paths):
        try:
            content = (Path(project) / path).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing: run make repro, which makes it, or make pull") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if locked.get(path) != found:
            raise InputError(f"{path} has MD5 {found}, dvc.lock says {locked.get(path, 'nothing of it')}: not loaded")
        for used in maker[path].get("deps", []):
            if locked.get(used["path"], used["md5"]) != used["md5"]:
                raise InputError(f"{path} was made from {used['path']} as it was before the last run: run make repro")
        contents.append(content)
    return contents


def deserialize(path: Path | str, content: bytes) -> Any:
    """Make a model of the content of its file, which runs code: of what `read_locked` gave only.

    Parameters
    ----------
    path : Path or str
        Its suffix tells the format: ``.joblib`` or ``.keras``.
    content : bytes

    Returns
    -------
    sklearn.base.BaseEstimator or keras.Model
    """
    if Path(path).suffix == ".joblib":
        return joblib.load(io.BytesIO(content))

    # With it come the layers that a network may have beside those of Keras.
    from few_labels.network import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as copy:
        copy.write(content)
        copy.flush()
        return keras.models.load_model(copy.name)
