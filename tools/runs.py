"""Push or pull the files of every run that DVC's run cache knows, experiments included.

``dvc push --run-cache`` sends the records of all runs, but only those files that the workspace uses and that git does
not hold: with these alone, another clone would know that an experiment was run and yet have to run it again. This
sends the rest too: what other parameters made, and DVC's copies of metrics and plots.
"""

import logging
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from typer import Argument

from few_labels.errors import InputError
from stages import run


class Direction(StrEnum):
    """Which way the files go."""

    PUSH = "push"
    PULL = "pull"


def main(direction: Annotated[Direction, Argument()]) -> None:
    with Repo() as repo, repo.lock:
        try:
            n_files = transfer(repo, direction)
        except InputError:
            raise
        except Exception as error:  # every kind of remote has exceptions of its own
            raise InputError(f"{direction} failed, {describe_remote(repo)}: {error}") from error
    print(f"{n_files} files {direction}ed, those of earlier runs included")


def transfer(repo: Repo, direction: Direction) -> int:
    """Copy the run cache, and the files that it or dvc.lock names, to the default remote or from it.

    Parameters
    ----------
    repo : dvc.repo.Repo
        Locked by the caller.
    direction : Direction

    Returns
    -------
    int
        How many files were copied; those already there are not.

    Raises
    ------
    InputError
        If some could not be, with the reason for the first; if one that dvc.lock names is neither here nor on the
        remote; or, of a pull, if some are missing or not what their hash says.
    """
    first_error = FirstError()
    for library in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(library).handlers = [first_error]
    if direction is Direction.PULL:
        for remote in repo.config["remote"].values():
            remote["verify"] = True  # models run code when they are loaded: nothing comes in unchecked, whatever is set
        repo.stage_cache.pull(None)
    runs = [(record.parent.name, record.name) for record in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
    files = set().union(*repo.used_objs(used_run_cache=runs).values())
    result = (repo.cloud.push if direction is Direction.PUSH else repo.cloud.pull)(files)
    if result.failed:
        raise InputError(
            f"{len(result.failed)} files not {direction}ed, {describe_remote(repo)}; {first_error.message}"
        )
    # DVC drops what does not have its hash, and passes over what it lacks, without a word.
    needed = result.transferred.union(*repo.used_objs().values())
    absent = {file for file in needed if not repo.cache.local.exists(file.value)}
    if direction is Direction.PULL:
        if absent:
            raise InputError(f"missing or corrupted, {describe_remote(repo)}: {list_files(absent)}")
    else:
        lost = repo.cloud.status(absent).missing if absent else set()
        if lost:
            raise InputError(f"in neither DVC's cache nor {describe_remote(repo)}: {list_files(lost)}: run make repro")
        repo.stage_cache.push(None)  # last: a record on the remote has its files there
    return len(result.transferred)


def describe_remote(repo: Repo) -> str:
    """Name the default remote and where it is."""
    name = repo.config["core"].get("remote")
    return f"remote {name} at {repo.config['remote'][name]['url']}" if name else "no default remote"


def list_files(files: Iterable[HashInfo]) -> str:
    """Name files and their hashes."""
    return ", ".join(sorted(f"{file.obj_name} (MD5 {file.value})" for file in files))


class FirstError(logging.Handler):
    """Keeps the first of the errors that DVC logs, one for each file; the others rarely say anything new."""

    message = "DVC gave no reason"

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the message of the first record and the exception behind it."""
        if self.message is FirstError.message:
            cause = record.exc_info[1] if record.exc_info else "no cause given"
            self.message = f"first {record.getMessage()} ({cause})"


if __name__ == "__main__":
    run(main)
