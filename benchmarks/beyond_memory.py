"""The pipeline on more images than a process may hold, on a cluster of this machine: seconds and memory of each stage.

``python -m benchmarks.beyond_memory --images 2000000`` repeats the training images, shifted and with noise, in a clone,
and runs the committed pipeline there on workers that Dask ends when they hold more than their limit. It stands beside
the cases of ``make bench``: a run takes most of an hour, and tens of gigabytes of disk.
"""

import stages  # noqa: F401  # isort: skip: it pins the kernels, before NumPy is imported

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import PROJECT, load
from few_labels.artifacts import replacing
from few_labels.blocks import cut
from tools.clones import check_out, make_environment, write_parameters
from tools.pages import format_markdown, write_table
from tools.recipes import combine, read_recipe

TABLE = PROJECT / "metrics" / "beyond_memory.csv"
CLONE = PROJECT / ".dvc/tmp/beyond_memory"
HOST = "127.0.0.1"
ROWS_AT_ONCE = 2**14
LARGEST_NOISE = 8
LARGEST_SHIFT = 2
SECONDS_BETWEEN_LOOKS = 0.1
MB = 2**20


@dataclass
class Seen:
    """What was seen of a stage while it ran.

    Attributes
    ----------
    start, end : float
        When it was seen first and last, in seconds.
    peak : dict
        The most memory of the stage's own process, of a worker, and of the scheduler, in MB.
    """

    start: float
    end: float
    peak: dict[str, float] = field(default_factory=lambda: {"stage": 0.0, "worker": 0.0, "scheduler": 0.0})


def main(
    images: Annotated[int, typer.Option(help="how many")],
    workers: Annotated[int, typer.Option(help="0 runs in the stages' own processes")] = 3,
    memory: Annotated[str, typer.Option(help="limit of a worker")] = "1GB",
    recipe: Annotated[bool, typer.Option(help="the recipe for few labels, in place of the defaults")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="a parameter, name=value")] = None,
    last_stage: Annotated[str, typer.Option(help="to end with")] = "",
) -> None:
    check_out(CLONE)
    write_images(CLONE / "data/own", images)
    settings = {"download.dataset": "own"} | dict(each.split("=", 1) for each in set_ or [])
    if recipe:
        settings = combine(read_recipe("few-labels"), settings)
    write_parameters(CLONE, settings)
    (CLONE / ".dvc/config.local").write_text("[cache]\n    type = hardlink\n")
    with cluster(workers, memory, CLONE) as (address, processes):
        seen = run_and_look(["repro", *filter(None, [last_stage])], address, processes)
    name = ", ".join(["recipe" if recipe else "defaults", *(set_ or [])])
    run = {"settings": name, "images": images, "workers": workers}
    rows = pd.DataFrame(
        [
            run
            | {"stage": stage, "seconds": round(each.end - each.start, 1)}
            | {f"{who}_mb": round(peak) for who, peak in each.peak.items()}
            for stage, each in seen.items()
            if stage != "check_parameters"
        ]
    )
    print(rows.to_string(index=False))
    if not last_stage:
        print((CLONE / "metrics/metrics.json").read_text())
    if TABLE.exists():
        before = pd.read_csv(TABLE)
        same = (before[list(run)] == pd.Series(run)).all(axis=1)
        rows = pd.concat([before[~same], rows]).sort_values(list(run), kind="stable")
    with replacing(TABLE) as temporary:
        rows.to_csv(temporary, index=False)
    write_table(PROJECT / "docs/cluster.md", "beyond-memory", format_stages(rows))


def format_stages(rows: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each stage of each run."""
    header = ["settings", " images", " workers", "stage", " seconds", " stage, MB", " a worker, MB", " scheduler, MB"]
    lines = [
        [row["settings"], f"{row['images']:,}", str(row["workers"]), row["stage"].replace("_", "-")]
        + [f"{row[column]:,.0f}" for column in ("seconds", "stage_mb", "worker_mb", "scheduler_mb")]
        for row in rows.to_dict("records")
    ]
    return format_markdown(header, lines)


def write_images(own: Path, n_images: int) -> None:
    """Write IDX files: the training images over and over, each shifted and with its own noise, and the test images."""
    originals, labels = load("train_images")[..., 0], load("train_labels").astype(np.uint8)
    write_idx(own / "t10k-images-idx3-ubyte", load("test_images").shape[:3], [load("test_images")])
    write_idx(own / "t10k-labels-idx1-ubyte", load("test_labels").shape, [load("test_labels").astype(np.uint8)])
    write_idx(own / "train-labels-idx1-ubyte", (n_images,), [np.resize(labels, n_images)])
    write_idx(own / "train-images-idx3-ubyte", (n_images, *originals.shape[1:]), make_blocks(originals, n_images))


def make_blocks(originals: NDArray[np.uint8], n_images: int) -> Iterator[NDArray[np.uint8]]:
    """Give images over and over, block by block, each shifted and with its own noise."""
    for seed, rows in enumerate(tqdm(cut(n_images, ROWS_AT_ONCE), desc="images", unit="block")):
        some = originals[np.arange(rows.start, rows.stop) % len(originals)]
        yield shift_and_add_noise(some, np.random.default_rng(seed))


def write_idx(path: Path, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]) -> None:
    """Write an IDX file of unsigned bytes, block by block."""
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes())
        for block in blocks:
            file.write(block.tobytes())


def shift_and_add_noise(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift each image by up to two pixels, and add up to seven to each pixel."""
    shifts = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (len(images), 2))
    shifted = np.empty_like(images)
    for shift in np.unique(shifts, axis=0):
        alike = (shifts == shift).all(axis=1)
        shifted[alike] = np.roll(images[alike], shift, axis=(1, 2))
    noise = rng.integers(0, LARGEST_NOISE, images.shape, np.uint8)
    return np.minimum(shifted, 255 - noise) + noise


@contextmanager
def cluster(n_workers: int, memory: str, code: Path) -> Iterator[tuple[str, Mapping[str, psutil.Process]]]:
    """Start what ``make scheduler`` and ``make worker`` start in a folder, or nothing without workers.

    Yields
    ------
    str
        The scheduler's address, empty without one.
    dict of str to psutil.Process
        The ``scheduler``, and the process that starts each ``worker``.
    """
    if not n_workers:
        yield "", {}
        return
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    address, dask = f"tcp://{HOST}:{port}", [sys.executable, "-m", "dask"]
    environment = os.environ | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    scheduler = [*dask, "scheduler", "--host", HOST, "--port", str(port), "--no-dashboard"]
    workers = [*dask, "worker", address, "--nworkers", str(n_workers), "--nthreads", "1", "--memory-limit", memory]
    workers += ["--preload-nanny", "few_labels.worker", "--no-dashboard", "--local-directory", str(code / ".dvc/tmp")]
    started = {}
    try:
        for name, command in {"scheduler": scheduler, "worker": workers}.items():
            started[name] = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield address, started
    finally:
        for process in started.values():
            for each in [*process.children(recursive=True), process]:
                each.kill()


def run_and_look(arguments: list[str], address: str, processes: Mapping[str, psutil.Process]) -> dict[str, Seen]:
    """Run dvc in the clone, on the cluster if there is one, and give what was seen of each stage."""
    environment = make_environment() | {"DASK_SCHEDULER_ADDRESS": address}
    seen: dict[str, Seen] = {}
    with psutil.Popen([sys.executable, "-m", "dvc", *arguments], cwd=CLONE, env=environment) as dvc:
        while dvc.poll() is None:
            look(dvc, processes, seen)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if dvc.returncode:
        raise SystemExit(f"dvc {' '.join(arguments)} ended with {dvc.returncode}")
    return seen


def look(dvc: psutil.Process, processes: Mapping[str, psutil.Process], seen: dict[str, Seen]) -> None:
    """Note how much memory the processes of the stage that runs have held at most."""
    for process in dvc.children(recursive=True):
        with suppress(psutil.Error):
            command = process.cmdline()
            if command[1:2] == ["-m"] and command[2].startswith("stages."):
                stage, now = command[2].removeprefix("stages."), time.time()
                noted = seen.setdefault(stage, Seen(process.create_time(), now))
                noted.end = now
                note(noted, "stage", process)
                for who, running in processes.items():
                    for each in [running, *running.children(recursive=True)]:
                        note(noted, who, each)


def note(noted: Seen, who: str, process: psutil.Process) -> None:
    with suppress(psutil.Error):
        noted.peak[who] = max(noted.peak[who], process.memory_info().rss / MB)


if __name__ == "__main__":
    typer.run(main)
