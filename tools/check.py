"""Hold what the pipeline made, and DVC's cache of it, against dvc.lock; ``make check`` says what differs.

DVC tells by time, size and inode whether a file changed, and believes every object of its cache that is read-only. So
it misses what root writes in place, what keeps its time, and what a disk flips: a wrong result then counts as up to
date, or comes out of the cache, and is shared. Here every byte is hashed.

The commands that run stages come with ``--mend``: what DVC would trip over, or throw away without a word, is put right,
kept and named. Only an object of the cache that is not what its name says stops them, before DVC makes anything of it.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from filecmp import cmp
from itertools import count
from pathlib import Path
from shlex import quote
from shutil import copyfile
from typing import Annotated

import psutil
import yaml
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from typer import Option
from voluptuous import Invalid

from few_labels.errors import InputError
from few_labels.stored import remove
from stages import run

LOCK = Path("dvc.lock")
# What a person may have edited in an editor, so that it is kept.
TEXT = {".csv", ".json", ".tsv"}
EDITED = "was edited, or left by an interrupted run"
PARTIAL = ("data/.*.partial*", "models/**/.*.partial*", "metrics/**/.*.partial*", "study/**/.*.partial*")


@dataclass(frozen=True)
class Output:
    """A file that a stage made, or a folder of files, as dvc.lock has it: a folder's MD5 ends in ``.dir``."""

    path: Path
    md5: str
    stage: str


@dataclass(frozen=True)
class Comparison:
    """What holds of the outputs, and of the cache.

    Attributes
    ----------
    same : list of Output
        As dvc.lock says.
    missing : list of Output
    of_another_run : list of Output
        Not as dvc.lock says, but in the cache: another revision's, or another experiment's.
    edited : list of Output
        Neither: somebody edited it, or a run was interrupted before DVC had it.
    broken : dict of Path to str
        Objects of the cache whose content is not what their name says, and the output that they should be.
    n_objects : int
        How many objects there are.
    """

    same: list[Output]
    missing: list[Output]
    of_another_run: list[Output]
    edited: list[Output]
    broken: dict[Path, str]
    n_objects: int

    @property
    def n_outputs(self) -> int:
        """How many outputs there should be."""
        return sum(map(len, (self.same, self.missing, self.of_another_run, self.edited)))


def main(mend: Annotated[bool, Option(help="put right what may be, before stages run")] = False) -> None:
    if mend:
        mend_project()
        return
    compared = compare_project()
    wrong = describe_differences(compared)
    for line in wrong:
        say(line)
    if wrong:
        for process in find_runs():
            say(f"{describe(process)} is running here: check again when it has ended")
        raise SystemExit(1)
    print(
        f"{len(compared.same)} of {compared.n_outputs} outputs are here, as {LOCK} says; "
        f"all {compared.n_objects} objects in DVC's cache are sound"
    )


def compare_project() -> Comparison:
    """Hash the outputs and the objects, and compare them."""
    outputs, objects = read_outputs(LOCK), list_objects(Path(Repo().cache.local.path))
    paths = [output.path for output in outputs]
    md5 = hash_files([file for path in paths for file in list_files(path)] + objects)
    return compare(outputs, objects, md5 | {path: hash_folder(path, md5) for path in paths if path.is_dir()})


def describe_differences(compared: Comparison) -> list[str]:
    """Say what is not as dvc.lock says and the cure for it, in a line each."""
    if not LOCK.exists():
        return [f"there is no {LOCK}, so nothing is made yet: make repro"]
    other, edited = compared.of_another_run, compared.edited
    return [
        *(f"{each.path} is not what {LOCK} says but what another run made: make repro" for each in other),
        *(
            f"{each.path} is not what {LOCK} says, it {EDITED}; make repro has {each.stage} make it again"
            for each in edited
        ),
        *(f"{each.path} is missing: make repro or make pull" for each in compared.missing),
        *describe_broken(compared),
    ]


def describe_broken(compared: Comparison) -> list[str]:
    """Say which objects of the cache are broken and the cure, in a line each."""
    return [
        f"{path}, which is {name}, is not what its name says: it was written to, or the disk is broken; "
        f"rm -f {quote(str(path))}, then make repro or make pull"
        for path, name in compared.broken.items()
    ]


def mend_project() -> None:
    """Make good what would stop the next run, or be lost or taken for good by it; what is done about it is printed.

    Raises
    ------
    InputError
        If an object of the cache is broken, or something is to mend while another run needs it as it is.
    """
    with Repo() as repo:
        try:
            with repo.lock:
                runs = find_runs()
                mend_rwlock(repo, runs)
                if not runs:
                    remove_partial_files()
                mend_outputs(runs)
        except LockError as error:
            raise InputError(f"{Path().resolve()}: a dvc command is running here, try again when it ended") from error


def mend_rwlock(repo: Repo, runs: list[psutil.Process]) -> None:
    """Remove DVC's list of files in use where it is no such list, as an interrupt leaves it, if nothing is running."""
    hardlink = repo.config["core"].get("hardlink_lock", False)
    # No DVC writes the list while this is held, so that nothing half written is read.
    with make_lock(str(Path(repo.tmp_dir) / RWLOCK_LOCK), tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):
        file = Path(os.path.relpath(Path(repo.tmp_dir) / RWLOCK_FILE))
        try:
            SCHEMA(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (ValueError, Invalid) as error:
            refuse_while(runs, f"{file} is broken")
            file.unlink()
            say(f"{file} was broken, as an interrupt leaves it; no dvc is running, so it was removed ({error})")


def remove_partial_files() -> None:
    """Remove what stages had begun to write when they were killed."""
    for file in [file for pattern in PARTIAL for file in Path().glob(pattern)]:
        remove(file)
        say(f"{file} was left by a killed run, and is removed")


def mend_outputs(runs: list[psutil.Process]) -> None:
    """Have DVC see which outputs are not as dvc.lock says, and keep those that somebody edited."""
    compared = compare_project()
    if compared.broken:
        *others, last = describe_broken(compared)
        for line in others:
            say(line)
        raise InputError(last)
    for output in compared.of_another_run + compared.edited:
        refuse_while(runs, f"{output.path} is not what dvc.lock says")
        for file in list_files(output.path):
            file.touch()  # DVC believes what has the time, size and inode that it knows
    for output in compared.edited:
        kept = f"; what was there is kept as {keep(output.path)}" if output.path.suffix in TEXT else ""
        say(f"{output.path} {EDITED}: it is written by {output.stage} and made again{kept}")
    if compared.edited:
        say("edits belong in what the stages read: answers in labels/<dataset>.csv, settings in params.yaml")


def compare(outputs: Sequence[Output], objects: Sequence[Path], md5: Mapping[Path, str]) -> Comparison:
    """Compare outputs and the objects of the cache with what they should be.

    Parameters
    ----------
    outputs : sequence of Output
    objects : sequence of Path
        Each is named by the MD5 of its content: two digits for the folder, the others for the file.
    md5 : mapping of Path to str
        What was found, of those that are there, and of folders that are outputs.

    Returns
    -------
    Comparison
    """
    names = name_contents(outputs, objects)
    broken = {path: named_md5(path) for path in objects if md5[path] != named_md5(path)}
    made = set(map(named_md5, objects)).difference(broken.values())
    compared = Comparison(
        [], [], [], [], {path: names.get(hashed, "of an earlier run") for path, hashed in broken.items()}, len(objects)
    )
    for output in outputs:
        found = md5.get(output.path)
        if found is None:
            compared.missing.append(output)
        elif found == output.md5:
            compared.same.append(output)
        elif found.removesuffix(".dir") in made:
            compared.of_another_run.append(output)
        else:
            compared.edited.append(output)
    return compared


def read_outputs(lock: Path) -> list[Output]:
    """Read which outputs dvc.lock has of the stages that dvc.yaml has; none where there is no dvc.lock.

    Parameters
    ----------
    lock : Path
        Beside its ``dvc.yaml``.

    Returns
    -------
    list of Output
        Their paths are as dvc.yaml has them.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    if not lock.exists():
        return []
    known = read_yaml(lock.with_name("dvc.yaml"))["stages"]
    stages = {
        name: stage
        for name, stage in ((read_yaml(lock) or {}).get("stages") or {}).items()
        if name in known  # DVC leaves stages behind that are no more
    }
    return [
        Output(Path(out["path"]), out["md5"], name) for name, stage in stages.items() for out in stage.get("outs", [])
    ]


def name_contents(outputs: Sequence[Output], objects: Sequence[Path]) -> dict[str, str]:
    """Name the outputs by their hashes as they stand in the cache, and the files of those that are folders."""
    names = {output.md5.removesuffix(".dir"): str(output.path) for output in outputs}
    for listing in objects:
        if listing.suffix == ".dir" and (folder := names.get(named_md5(listing))):
            # What is broken is no list.
            with suppress(ValueError, KeyError, TypeError):
                names |= {file["md5"]: f"{folder}/{file['relpath']}" for file in json.loads(listing.read_bytes())}
    return names


def read_yaml(path: Path) -> dict:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def list_objects(cache: Path) -> list[Path]:
    """List the objects of DVC's cache, as paths from here; what DVC was still writing to when it was killed is none."""
    objects = [file for file in cache.glob("??/*") if re.fullmatch("[0-9a-f]{32}", named_md5(file)) and file.is_file()]
    return [Path(os.path.relpath(file)) for file in objects]


def named_md5(file: Path) -> str:
    """Give the MD5 that an object's name says."""
    return file.parent.name + file.name.removesuffix(".dir")


def list_files(path: Path) -> list[Path]:
    """List the files of a folder, at any depth; a file is its only one."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def hash_folder(folder: Path, md5: Mapping[Path, str]) -> str:
    """Give the hash that DVC has of a folder, from those of its files."""
    tree = Tree()
    for file in list_files(folder):
        tree.add(file.relative_to(folder).parts, None, HashInfo("md5", md5[file]))
    tree.digest()
    return str(tree.hash_info.value)


def hash_files(files: Iterable[Path]) -> dict[Path, str]:
    """Hash the files that exist, those with several names once.

    Parameters
    ----------
    files : iterable of Path

    Returns
    -------
    dict of Path to str
        The MD5 of the content of each.
    """
    here = [file for file in files if file.is_file()]
    inodes = {file: ((stat := file.stat()).st_dev, stat.st_ino) for file in here}
    distinct = {inode: file for file, inode in inodes.items()}
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing does not hold the interpreter
        md5 = dict(zip(distinct, threads.map(hash_file, distinct.values()), strict=True))
    return {file: md5[inode] for file, inode in inodes.items()}


def hash_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def keep(path: Path) -> Path:
    """Copy a file beside itself, unless there is such a copy, and never over another."""
    for number in count(1):
        copy = path.with_name(f"{path.stem}.edited{f'.{number}' if number > 1 else ''}{path.suffix}")
        if not copy.exists():
            copyfile(path, copy)
            return copy
        if cmp(path, copy, shallow=False):
            return copy
    raise AssertionError


def find_runs() -> list[psutil.Process]:
    """Find the processes of dvc, and the stages that run, here or below, this one's own parents excepted.

    Other people's are not seen: a working tree is one person's, and is shared through git and a remote.
    """
    root, own = Path().resolve(), {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            runs = process.pid not in own and runs_stages(process.cmdline())
            if runs and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except psutil.Error:  # it ended, or is somebody else's
            continue
    return found


def runs_stages(command: list[str]) -> bool:
    """Tell by a command line whether it is dvc, other than its look for a newer version, or a stage."""
    is_dvc = any(Path(word).name == "dvc" for word in command[:2]) or command[1:3] == ["-m", "dvc"]
    is_stage = command[1:2] == ["-m"] and bool(re.match(r"(stages|study)\.", "".join(command[2:3])))
    return is_stage or (is_dvc and "daemon" not in command)


def refuse_while(runs: list[psutil.Process], seen: str) -> None:
    if runs:
        raise InputError(f"{seen}, and {describe(runs[0])} is running here: wait until it has ended, or stop it")


def describe(process: psutil.Process) -> str:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        command = "a dvc command"
    return f"process {process.pid} ({command})"


def say(line: str) -> None:
    print(f"check: {line}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
