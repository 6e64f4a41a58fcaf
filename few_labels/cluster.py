"""Run a function over partitions of rows on a Dask cluster: the one module that knows of it, loaded where there is one.

A function goes to the cluster once a map, and a partition as the names of its arrays and its rows. Every task is a pure
function of these, so one that is lost with its worker runs again on another, and a map whose connection is lost goes on
where it was. Tasks wait in a window, so that results do not pile up before the client takes them, in order.
"""

import hashlib
import logging
import os
import platform
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, get_worker
from distributed.comm.core import CommClosedError
from tqdm import tqdm

from few_labels.errors import InputError, quote, shorten
from few_labels.kernels import DECISIVE, name_kernels
from few_labels.stored import Rows, Stored, deliver

ADDRESS = "DASK_SCHEDULER_ADDRESS"
SECONDS_TO_CONNECT = 10
SECONDS_WITHOUT_WORKERS = 60
MOST_CONNECTIONS_LOST = 3
TASKS_A_THREAD = 3


def map_on_cluster(
    function: Callable[..., Any], partitions: Sequence[slice], arrays: Sequence[Rows], out: Rows | None
) -> Iterator[Any]:
    """Call a function on the rows of each partition on the workers, and give what it returns in their order.

    Parameters
    ----------
    function : callable
        Takes an array for each of ``arrays``.
    partitions : sequence of slice
    arrays : sequence of ndarray or Stored
    out : ndarray or Stored, or None
        Where results are written, by the workers if it is stored.

    Yields
    ------
    object
        What the function returned, or None where it was written to ``out``.

    Raises
    ------
    InputError
        If the cluster is not as it has to be, or a partition is more than a worker can hold.
    """
    client = connect()
    _require_files(client, [array for array in (*arrays, out) if isinstance(array, Stored)])
    done, lost = 0, 0
    while done < len(partitions):
        try:
            for result in _submit(client, function, partitions[done:], arrays, out):
                yield result
                done += 1
        except (CancelledError, CommClosedError) as error:
            lost += 1
            if lost > MOST_CONNECTIONS_LOST:
                raise InputError(f"the connection to the scheduler at {_address()} was lost {lost} times") from error
            tqdm.write("the connection to the scheduler was lost, and is made anew", file=sys.stderr)
            client = connect(afresh=True)
        except KilledWorker as error:
            raise InputError(
                f"a worker was lost {error.allowed_failures + 1} times over the same rows: if it ran out of memory, "
                "start fewer workers with more of it (dask worker --memory-limit)"
            ) from error


def _submit(
    client: Client,
    function: Callable[..., Any],
    partitions: Sequence[slice],
    arrays: Sequence[Rows],
    out: Rows | None,
) -> Iterator[Any]:
    carried = client.submit(_carry, function, pure=False)
    written = out if isinstance(out, Stored) else None
    expected = describe_process()
    window = TASKS_A_THREAD * sum(client.nthreads().values())
    waiting: deque[tuple[slice, Future]] = deque()

    def take() -> Any:
        rows, future = waiting.popleft()
        return deliver(_wait(client, future), rows, None if written else out)

    for rows in partitions:
        blocks = [array if isinstance(array, Stored) else array[rows] for array in arrays]
        waiting.append((rows, client.submit(_run_task, expected, carried, rows, blocks, written, pure=False)))
        if len(waiting) > window:
            yield take()
    while waiting:
        yield take()


def _wait(client: Client, future: Future) -> Any:
    """Give the result of a task, unless there is nobody left who could compute it."""
    waited = 0
    while True:
        try:
            return future.result(timeout=SECONDS_TO_CONNECT)
        except TimeoutError:
            waited = 0 if client.nthreads() else waited + SECONDS_TO_CONNECT
            if waited >= SECONDS_WITHOUT_WORKERS:
                address = _address()
                raise InputError(
                    f"the scheduler at {address} has had no worker for {waited} seconds: {_start_workers(address)}"
                ) from None


def _carry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Be a task whose result is a function: what it holds goes to a worker once, and again where a worker is lost."""
    return function


def _run_task(
    expected: dict[str, str], function: Callable[..., Any], rows: slice, blocks: list[Any], out: Stored | None
) -> Any:
    _require_same(expected, describe_process(), get_worker().address)
    return deliver(function(*(block[rows] if isinstance(block, Stored) else block for block in blocks)), rows, out)


def connect(*, afresh: bool = False) -> Client:
    """Connect to the scheduler that the environment names, once a process, and look at its workers.

    Parameters
    ----------
    afresh : bool
        Whether the connection that there was is lost.

    Returns
    -------
    distributed.Client

    Raises
    ------
    InputError
        If no scheduler answers there, if it has no worker, or one that would compute other bytes.
    """
    if afresh:
        _connect.cache_clear()
    return _connect(_address())


@cache
def _connect(address: str) -> Client:
    for library in ("distributed", "asyncio"):
        # What they log of connections and workers that come and go is handled here, and what ends a stage is one line.
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    # A function that holds an encoder is large, and travels once.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "4GB"})
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{ADDRESS} is {quote(address)}, where no scheduler answers: "
            "make scheduler starts one, and prints its address"
        ) from error
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
    except TimeoutError as error:
        raise InputError(f"the scheduler at {address} has no worker: {_start_workers(address)}") from error
    try:
        # A function of the project's could not even be named to a worker that has none of it.
        _ask(client, exec, f"import {__name__}")
    except ImportError as error:
        raise InputError(
            f"a worker does not find the project's code ({error}): {_start_workers(address)}, in a clone of it"
        ) from error
    expected = describe_process()
    for worker, seen in _ask(client, describe_process).items():
        _require_same(expected, seen, worker)
    n_workers = len(client.nthreads())
    print(
        f"{n_workers} worker{'s' * (n_workers > 1)} of the cluster at {address}, watched at {client.dashboard_link}",
        flush=True,
    )
    return client


def _ask(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Call a function on every worker, but for one that is lost meanwhile: who follows it is asked with each task."""
    answers = client.run(function, *arguments, on_error="return")
    for answer in answers.values():
        if isinstance(answer, Exception) and not isinstance(answer, OSError):
            raise answer
    return {worker: answer for worker, answer in answers.items() if not isinstance(answer, Exception)}


def _start_workers(address: str) -> str:
    return f"make worker SCHEDULER={address} starts them"


def _address() -> str:
    return os.environ[ADDRESS]


@cache
def describe_process() -> dict[str, str]:
    """Say what decides the bytes that this process computes.

    Returns
    -------
    dict
        Of what (the code, a package, a setting of the environment) to which.
    """
    code = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        code.update(module.read_bytes())
    described = {"few_labels": code.hexdigest()[:12], "python": ".".join(platform.python_version_tuple()[:2])}
    for package in [*DECISIVE, "dask", "distributed"]:
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            described[package] = "not at all"
    return described | {name: os.environ.get(name, "not set") for name in name_kernels()}


def _require_same(expected: dict[str, str], seen: dict[str, str], worker: str) -> None:
    for name in expected:
        if (other := seen.get(name, "not at all")) != expected[name]:
            raise InputError(
                f"the worker at {worker} has {name} {shorten(other)}, this process {shorten(expected[name])}: "
                "start it anew with make worker, in a clone of the same commit"
            )


def _require_files(client: Client, arrays: Sequence[Stored]) -> None:
    """Refuse workers that do not see the files as this process does."""
    paths = sorted({array.path for array in arrays})
    expected = look(paths)
    for worker, seen in _ask(client, look, paths).items():
        for path, here, there in zip(paths, expected, seen, strict=True):
            if here != there:
                raise InputError(
                    f"the worker at {worker} sees {'another' if there else 'no'} {path}: workers need the project's "
                    "folder at the same place, on a file system that all share"
                )


def look(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """Give the size and the time of files, None for one that is not there."""
    found: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            status = Path(path).stat()
            found.append((status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return found
