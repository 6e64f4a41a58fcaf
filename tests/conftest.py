"""What the tests share: the real data set, and scratch clones in which the real dvc runs on a small part of it."""

import stages  # isort: skip: it pins the kernels, before NumPy is imported

import fcntl
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray

from few_labels.ledger import append_answer
from stages.download import IdxDescription, fetch, find_idx, read_idx, read_source
from tests.forks import forked_commands
from tools.recipes import read_recipe

PROJECT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
FASHION = IdxDescription(**yaml.safe_load((PROJECT / "datasets" / "fashion-mnist.yaml").read_text()))

# A run of all ten stages in seconds, whose clustering stops before it has converged.
SMALL = {
    "n_clusters": 50,
    "download.limit": 1000,
    "kmeans.n_components": 16,
    "kmeans.n_iter_components": 2,
    "select_labels.n_labels": 50,
    "train_logreg.max_iter": 50,
    "train_nn.max_steps": 60,
}

# The settings of the recipe for few labels, and small ones where it costs.
SMALL_RECIPE: dict[str, Any] = {name: yaml.safe_load(value) for name, value in read_recipe("few-labels").items()} | {
    "embed.n_words": 20,
    "embed.n_components": 30,
    "n_clusters": 20,
    "select_labels.n_labels": 60,
    "refine.max_steps": 30,
    "train_nn.max_steps": 60,
}


def read_images(idx_folder: Path) -> NDArray[np.uint8]:
    """Give the training images of Fashion-MNIST, of shape (60000, 28, 28, 1)."""
    return read_array(idx_folder, "train-images-idx3-ubyte")[..., None]


def read_labels(idx_folder: Path) -> NDArray[np.uint8]:
    """Give their labels."""
    return read_array(idx_folder, "train-labels-idx1-ubyte")


def read_array(idx_folder: Path, name: str) -> NDArray[np.uint8]:
    path = find_idx(idx_folder, name)
    assert path is not None
    return read_idx(read_source(path, name), name)


def environment(commands: Path = BIN) -> dict[str, str]:
    """Give the environment of a command in a clone, which finds this interpreter's dvc and python first."""
    return os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


@dataclass(frozen=True)
class Clone:
    """A git and DVC repository in a folder of its own."""

    path: Path

    def call(self, *command: str, check: bool = True, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, and type into it; its output has standard error in it."""
        # What a shell or another user runs has limits and rights of its own, so nothing of it is forked.
        is_plain = command[0] in {"dvc", "make", "python", "tools/python"}
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment(forked_commands() if is_plain else BIN),
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        return self.call("dvc", *arguments, check=check).stdout

    def git(self, *arguments: str) -> str:
        return self.call("git", *arguments).stdout

    def sh(self, command: str, check: bool = True, typed: str = "") -> str:
        """Run a command line as a person types it; make takes the tests' environment instead of installing one."""
        return self.call(*self._split(command, forked_commands()), check=check, typed=typed).stdout

    def start(self, command: str, **variables: str) -> subprocess.Popen[str]:
        """Start one that ends when it is told to, in a process group of its own, with variables of the environment.

        Unlike those of `call` it is forked from nothing: it can be interrupted and killed.
        """
        return subprocess.Popen(
            self._split(command, BIN),
            cwd=self.path,
            env={name: value for name, value in environment().items() if "PYTEST" not in name} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _split(self, command: str, commands: Path) -> list[str]:
        program, *arguments = shlex.split(command)
        own = (f"BIN={commands}", "--old-file=.venv/installed", "--no-print-directory") if program == "make" else ()
        return [program, *own, *arguments]

    def repro(self) -> list[str]:
        """Run ``dvc repro`` and name the stages that it executed."""
        return executed(self.dvc("repro"))

    def set_params(self, changes: dict[str, Any]) -> None:
        """Change params.yaml; a dot in a name leads into a group."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for name, value in changes.items():
            *groups, key = name.split(".")
            group = params
            for step in groups:
                group = group[step]
            group[key] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.path / "metrics" / "metrics.json").read_text())

    def lock(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "dvc.lock").read_text())

    def copy_to(self, path: Path) -> "Clone":
        """Copy everything, DVC's cache included."""
        shutil.copytree(self.path, path, symlinks=True)
        return Clone(path)


def leaves(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested parameters or metrics to one level, names joined by dots."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def executed(output: str) -> list[str]:
    """Name the stages that dvc ran, read off its output, but for the check of params.yaml, which any change runs."""
    return [name for name in re.findall(r"^Running stage '(.+)':", output, re.MULTILINE) if name != "check-parameters"]


def run_stage(name: str, *options: str) -> None:
    """Run the command line of a stage in this process, in the folder where it is, which spares what it imports."""
    command = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"][name]["cmd"]
    _, _, module, *arguments = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module.removeprefix("stages."), *arguments, *options])
        stages.run(import_module(module).main)


def clone_project(path: Path) -> Clone:
    """Make a repository of the project's files as they are in the working tree, changes that are not committed too."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, tracked.split("\0")):
        if (PROJECT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, path / name)
    clone = Clone(path)
    clone.git("init", "--quiet", "--initial-branch=main")
    clone.git("config", "user.name", "A. Tester")
    clone.git("config", "user.email", "tester@example.com")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "The project as it is")
    return clone


def cut_small(run: Clone, path: Path) -> Clone:
    """Copy a run whose thousand images are more than one partition in the copy, and more than one file."""
    clone = run.copy_to(path)
    for module, name, size, smaller in (
        ("blocks", "MOST_ROWS_WHOLE", "2**16", "150"),
        ("blocks", "ROWS_PER_PARTITION", "2**14", "170"),
        ("stored", "MOST_BYTES_PER_FILE", "2**29", "2**16"),
    ):
        file = clone.path / f"few_labels/{module}.py"
        source = file.read_text()
        assert source.count(f"\n{name} = {size}\n") == 1
        file.write_text(source.replace(f"\n{name} = {size}\n", f"\n{name} = {smaller}\n"))
    return clone


# Most of their tests start stages, make, a browser or an installer, which adds up.
SLOW_MODULES = {
    "test_cluster",
    "test_encoder",
    "test_imports",
    "test_kernels",
    "test_own_images",
    "test_page",
    "test_pr_report",
    "test_remotes",
    "test_report",
    "test_study",
    "test_supply_chain",
    "test_verify",
}


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are processors: tests wait for servers, browsers and disks."""
    return (os.cpu_count() or 1) + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the slow modules where no slow test is wanted, before what they need is imported."""
    is_left_out = collection_path.stem in SLOW_MODULES and "not slow" in config.getoption("markexpr")
    return True if is_left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that read the real data set, and the slow ones; ``make test-quick`` runs the others."""
    for item in items:
        if "idx_folder" in getattr(item, "fixturenames", ()):
            item.add_marker("data_set")
        if Path(item.location[0]).stem in SLOW_MODULES:
            item.add_marker("slow")


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder that all processes of pytest-xdist share; who comes second waits for who came first."""
    folder = tmp_path_factory.getbasetemp()
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / name
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            # One that failed half-way is not there for the next.
            unfinished = path.with_name(f"{name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(path)
    return path


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four real IDX files, two of them gzipped."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, content in fetch(FASHION, "auto").items():
            if name.startswith("t10k"):
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
            else:
                (folder / name).write_bytes(content)

    return make_once(tmp_path_factory, "idx", make)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Clone:
    """A clone in which the small pipeline has run once and its results are committed. Tests work on copies of it."""

    def make(path: Path) -> None:
        clone = clone_project(path)
        clone.set_params(SMALL | {"download.source": str(idx_folder)})
        shutil.copy(clone.path / "datasets/fashion-mnist.yaml", clone.path / "datasets/the-same.yaml")
        clone.repro()
        # A person gave the same answers, which are there for whoever asks for a person's.
        ledger, bought = clone.path / "labels/fashion-mnist.csv", pd.read_csv(clone.path / "data" / "bought_labels.csv")
        for image, label in zip(bought["image"], bought["class"], strict=True):
            append_answer(ledger, image=image, label=label, annotator="A. Tester", round=1)
        assert clone.repro() == ["select-labels"]
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", "A small run")
        # Of the files that every copy has, half are git's, which fit in one.
        clone.git("gc", "--quiet")

    return Clone(make_once(tmp_path_factory, "small_run", make))


@pytest.fixture(scope="session")
def recipe_run(small_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The small run with the settings of the recipe for few labels. Tests work on copies of it."""

    def make(path: Path) -> None:
        clone = small_run.copy_to(path)
        clone.set_params(SMALL_RECIPE)
        clone.repro()
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", "The recipe for few labels")

    return Clone(make_once(tmp_path_factory, "recipe_run", make))


@pytest.fixture(scope="session")
def with_experiment(small_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The small run, beside an experiment ``half`` that spread each label over half of its cluster."""

    def make(path: Path) -> None:
        clone = small_run.copy_to(path)
        clone.sh("dvc exp run --name half -S percentile=50")
        clone.git("checkout", ".")
        clone.sh("dvc checkout")

    return Clone(make_once(tmp_path_factory, "with_experiment", make))


@pytest.fixture
def clone(small_run: Clone, tmp_path: Path) -> Clone:
    """A copy of the small run, to change at will."""
    return small_run.copy_to(tmp_path / "clone")
