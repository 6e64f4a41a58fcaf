"""The pipeline on more images than a process may hold, on a cluster of this machine: seconds and memory of each stage.

``python -m benchmarks.beyond_memory --images 2000000`` repeats the training images, shifted and with noise, in a clone,
and runs the committed pipeline there on workers that Dask ends when they hold more than their limit. It stands beside
the cases of ``make bench``: a run takes most of an hour, and tens of gigabytes of disk.
"""

import stages  # noqa: F401  # isort: skip: it pins the kernels, before NumPy is imported

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import pandas as pd
import psutil
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from benchmarks.common import PROJECT
from benchmarks.local_cluster import cluster
from benchmarks.many_images import write_images
from few_labels.artifacts import replacing
from tools.clones import check_out, make_environment, write_parameters
from tools.git import git
from tools.pages import format_markdown, write_table
from tools.recipes import combine, read_recipe
from tools.verify import name_processor

TABLE = PROJECT / "metrics" / "beyond_memory.csv"
CLONE = PROJECT / ".dvc/tmp/beyond_memory"
FIGURE = PROJECT / "metrics" / "plots" / "growth.png"
RUN = ["settings", "images", "workers"]
MEMORY = {"stage_mb": " stage, MB", "worker_mb": " a worker, MB", "scheduler_mb": " scheduler, MB"}
LAST_STAGE = "evaluate"
# Ten looks a second took a sixth of a processor, which two workers on two of them do not have to spare.
SECONDS_BETWEEN_LOOKS = 0.5
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
    images_per_cluster: Annotated[int, typer.Option(help="0 leaves n_clusters as it is")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="a parameter, name=value")] = None,
    last_stage: Annotated[str, typer.Option(help="to end with")] = "",
) -> None:
    check_out(CLONE)
    write_images(CLONE / "data/own", images)
    settings = {"download.dataset": "own"} | dict(each.split("=", 1) for each in set_ or [])
    if recipe:
        settings = combine(read_recipe("few-labels"), settings)
    if images_per_cluster:
        settings["n_clusters"] = str(images // images_per_cluster)
    write_parameters(CLONE, settings)
    (CLONE / ".dvc/config.local").write_text("[cache]\n    type = hardlink\n")
    with cluster(workers, memory, CLONE) as (address, processes):
        # Another number of workers changes no byte, so that DVC would find all stages done.
        seen = run_and_look(["repro", "--force", *filter(None, [last_stage])], address, processes)
    by_size = [f"{images_per_cluster} images a cluster"] * bool(images_per_cluster)
    name = ", ".join(["recipe" if recipe else "defaults", *by_size, *(set_ or [])])
    run = dict(zip(RUN, (name, images, workers), strict=True))
    made = {"processor": name_processor(), "revision": git("-C", str(CLONE), "rev-parse", "HEAD").decode().strip()}
    rows = pd.DataFrame(
        [
            run
            | {"stage": stage, "seconds": round(each.end - each.start, 1)}
            | {f"{who}_mb": round(peak) for who, peak in each.peak.items()}
            | made
            for stage, each in seen.items()
            if stage != "check_parameters"
        ]
    )
    print(rows.to_string(index=False))
    if not last_stage:
        print((CLONE / "metrics/metrics.json").read_text())
    if TABLE.exists():
        before = pd.read_csv(TABLE)
        same = (before[RUN] == pd.Series(run)).all(axis=1)
        rows = pd.concat([before[~same], rows]).sort_values(RUN, kind="stable")
    with replacing(TABLE) as temporary:
        rows.to_csv(temporary, index=False)
    write_table(PROJECT / "docs/cluster.md", "growth", format_runs(rows))
    write_table(PROJECT / "docs/cluster.md", "beyond-memory", format_stages(rows))
    with replacing(FIGURE) as temporary:
        draw_growth(rows).savefig(temporary, metadata={"Software": None})


def sum_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Give for each run the seconds of k-means and of all stages, and the most memory of each kind of process.

    Parameters
    ----------
    rows : DataFrame
        Columns ``settings,images,workers,stage,seconds,stage_mb,worker_mb,scheduler_mb,processor``, a row for each
        stage.

    Returns
    -------
    DataFrame
        Columns ``settings,images,workers,kmeans,whole,stage_mb,worker_mb,scheduler_mb,processor``; ``whole`` is nan
        where a run ended before the last stage.
    """
    runs = rows.assign(kmeans=rows["seconds"].where(rows["stage"] == "kmeans")).groupby(RUN, as_index=False)
    summed = runs.agg(
        kmeans=("kmeans", "max"),
        whole=("seconds", "sum"),
        last=("stage", "last"),
        **{column: (column, "max") for column in MEMORY},
        processor=("processor", "last"),
    )
    return summed.assign(whole=summed["whole"].where(summed["last"] == LAST_STAGE)).drop(columns="last")


def format_runs(rows: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each run."""
    header = ["settings", " images", " workers", " k-means, s", " all stages, s", *MEMORY.values(), "processor"]
    lines = [
        [row["settings"], f"{row['images']:,}", str(row["workers"])]
        + ["-" if pd.isna(row[column]) else f"{row[column]:,.0f}" for column in ("kmeans", "whole", *MEMORY)]
        + [row["processor"]]
        for row in sum_runs(rows).to_dict("records")
    ]
    return format_markdown(header, lines)


def format_stages(rows: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each stage of the largest whole run with each settings."""
    header = ["settings", " images", " workers", "stage", " seconds", *MEMORY.values()]
    largest = sum_runs(rows).dropna(subset="whole").groupby("settings").tail(1)[RUN]
    lines = [
        [row["settings"], f"{row['images']:,}", str(row["workers"]), row["stage"].replace("_", "-")]
        + [f"{row[column]:,.0f}" for column in ("seconds", *MEMORY)]
        for row in rows.merge(largest).to_dict("records")
    ]
    return format_markdown(header, lines)


def draw_growth(rows: pd.DataFrame) -> Figure:
    """Draw seconds and memory over the number of images, a line for each setting and number of workers."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    runs = sum_runs(rows)
    runs["mb"] = runs[list(MEMORY)].max(axis=1)
    where = {0: "no cluster", 1: "1 worker"}
    runs["name"] = [
        f"{settings}, {where.get(workers, f'{workers} workers')}"
        for settings, workers in zip(runs["settings"], runs["workers"].tolist(), strict=True)
    ]
    sizes = sorted(runs["images"].unique())
    for axes, column, title in zip(
        figure.subplots(1, 3),
        ("kmeans", "whole", "mb"),
        ("k-means", "all stages", "the largest process"),
        strict=True,
    ):
        # A run that ended early is in every panel, as nothing, so that a colour means the same in all.
        for name, line in runs.groupby("name", sort=False):
            axes.plot(line["images"], line[column], marker="o", label=name)
        axes.set(xscale="log", xlabel="images", title=title)
        axes.set_xticks(sizes)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.minorticks_off()
        if column == "mb":
            axes.set(ylabel="MB", ylim=(0, None))
        else:
            axes.set(ylabel="seconds", yscale="log")
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


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
