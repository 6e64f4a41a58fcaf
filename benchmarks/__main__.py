"""Run the benchmarks: every case, or with ``--case kmeans`` those of one module."""

from benchmarks.environment import ENVIRONMENT  # isort: skip: before NumPy is imported

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from benchmarks.code import hash_code, name_module
from benchmarks.common import PROJECT, Measurement, System
from few_labels.artifacts import replacing

TABLE = PROJECT / "metrics" / "bench.csv"
COLUMNS = ["case", "system", "seconds", "peak_mb", "quality", "code"]
LONG_SECONDS = 300
CAPPED = "- (stopped)"
WORKER = [sys.executable, "-m", "benchmarks.worker"]


class Case(StrEnum):
    """The modules of the cases, in the order in which they run."""

    IMPORTS = "imports"
    KMEANS = "kmeans"
    NEIGHBOURS = "neighbours"
    LOGREG = "logreg"
    NN = "nn"
    STUDY_LOGREG = "study_logreg"
    PIPELINE = "pipeline"
    PAGE = "page"
    SCALING = "scaling"
    CLUSTER = "cluster"


def main(
    case: Annotated[list[Case] | None, typer.Option(help="one module of cases, or more; all without")] = None,
) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    for chosen in case or list(Case):
        rows = measure_module(chosen)
        print_ratios(rows)
        if TABLE.exists():
            kept = pd.read_csv(TABLE, dtype=str)
            rows = pd.concat([kept[~kept["case"].isin(rows["case"])], rows])
            order = [list(Case).index(Case(name_module(name))) for name in rows["case"]]
            rows = rows.iloc[np.argsort(order, kind="stable")]
        with replacing(TABLE) as temporary:
            rows.to_csv(temporary, index=False)
    # Not before: this process stays small while it measures, see list_systems.
    from benchmarks.report import report

    report(pd.read_csv(TABLE))


def measure_module(module: str) -> pd.DataFrame:
    """Measure every system of a module, one after the other and then again, and print how they compare to ours.

    Parameters
    ----------
    module : str

    Returns
    -------
    DataFrame
        Columns ``case,system,seconds,peak_mb,quality,code``: of each system the run with the median time, and the hash
        of what was timed.
    """
    code = hash_code(module)
    systems = list_systems(module)
    runs: list[list[Measurement]] = [[] for _ in systems]
    for repetition in range(max(system.n_runs for system in systems)):
        for system, done in zip(systems, runs, strict=True):
            if repetition < system.n_runs and not any(run.seconds > LONG_SECONDS for run in done):
                done.append(system.measure())
                print(f"{system.case}, {system.name}: {done[-1].seconds:.2f} s, {done[-1].quality}", flush=True)
    rows = [
        (system.case, system.name, f"{run.seconds:.2f}", f"{run.peak_mb:.0f}", run.quality, code)
        for system, done in zip(systems, runs, strict=True)
        for run in [sorted(done, key=lambda run: run.seconds)[(len(done) - 1) // 2]]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def list_systems(module: str) -> list[System]:
    """Ask a module for its systems; here each is measured by a process that is started for it.

    This process imports none of what it measures: a child's peak counts from the size of its parent.
    """
    done = subprocess.run(
        [*WORKER, module], cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    return [
        System(**listed, measure=partial(run_once, module, position, listed["name"].startswith("ours"), listed["cap"]))
        for position, listed in enumerate(json.loads(done.stdout))
    ]


def run_once(module: str, position: int, ours: bool, cap: float | None) -> Measurement:
    """Measure a system in a new process, and stop it after ``cap`` seconds."""
    command = [*WORKER, module, str(position), *([] if ours else ["--free"])]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, stdout=output, stderr=log)
        timer = threading.Timer(cap or threading.TIMEOUT_MAX, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        log.seek(0)
        if process.returncode == -signal.SIGKILL and cap:
            measurement = Measurement(cap, CAPPED)
        elif process.returncode:
            raise SystemExit(f"{module} {position} failed:\n{log.read()}")
        else:
            measurement = Measurement(**json.loads(output.read().splitlines()[-1]))
    # Linux counts in units of 1024 bytes, macOS in bytes.
    measurement.peak_mb = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return measurement


def print_ratios(table: pd.DataFrame) -> None:
    """Print each case with what its systems take relative to the first of them, and what DVC adds to the stages."""
    for case, rows in table.groupby("case", sort=False):
        seconds = rows["seconds"].astype(float)
        print(f"\n{case}")
        for row, ratio in zip(rows.itertuples(), seconds / seconds.iloc[0], strict=True):
            print(f"  {row.system:<34} {row.seconds:>9} s {ratio:8.2f} x {row.peak_mb:>7} MB  {row.quality}")
        if str(case).startswith("pipeline") and len(rows) == 2:
            print(f"  DVC, shells and imports add {seconds.iloc[0] - seconds.iloc[1]:.1f} s")


if __name__ == "__main__":
    typer.run(main)
