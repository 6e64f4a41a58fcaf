"""Load a model only when it is the one that dvc.lock names.

Model files run code when they are loaded, so a file that somebody swapped must not be. dvc.lock is reviewed and
travels with git; the file comes from a remote that may have other owners.
"""

import hashlib
import io
import tempfile
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
        If dvc.lock does not name the file, or names another hash; nothing of the file was executed then.
    """
    # What is hashed is what is loaded: the file is read once.
    content = (Path(project) / path).read_bytes()
    stages = yaml.safe_load((Path(project) / "dvc.lock").read_text())["stages"]
    locked = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if locked.get(str(path)) != found:
        raise InputError(f"{path} has MD5 {found}, dvc.lock says {locked.get(str(path), 'nothing of it')}: not loaded")
    if Path(path).suffix == ".joblib":
        return joblib.load(io.BytesIO(content))

    from few_labels.tensorflow_setup import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as copy:
        copy.write(content)
        copy.flush()
        return keras.models.load_model(copy.name)
