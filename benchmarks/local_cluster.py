"""A Dask cluster of this machine's processes, whose workers end when they hold more than their limit."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

HOST = "127.0.0.1"


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
