"""Run a function over blocks of rows, on all processors or on a cluster; what it gives comes in the order of the rows.

There are two sizes. A *partition* is what one process holds at a time: a small data set is in memory as one, a large
one is in a file, of which each process of a cluster can work on another part. Within it go *blocks*, which the threads
of the process share. Both are cut by the shape of the data alone, whoever computes and however many there are, and
results are taken in the order of the rows: sums over them have the same bytes on every machine and on every cluster.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from few_labels.images import to_rows
from few_labels.stored import Rows, Stored, deliver

Result = TypeVar("Result")

# A data set of no more is held in memory.
MOST_ROWS_WHOLE = 2**16
MOST_VALUES_WHOLE = 2**27
# Of a larger one: as float32 it takes a process 64 MB or, for tables of many columns, less.
ROWS_PER_PARTITION = 2**14
VALUES_PER_PARTITION = 2**24

_in_one_thread: ContextVar[bool] = ContextVar("in_one_thread", default=False)


def map_blocks(function: Callable[[slice], Result], n_rows: int, rows_at_once: int) -> Iterator[Result]:
    """Call a function on one block of rows after another, and give what it returns in their order.

    Parameters
    ----------
    function : callable
        Takes a slice of rows. It runs in a thread: to gain from several, it should spend its time in NumPy.
    n_rows : int
    rows_at_once : int
        Rows of a block; the last may have fewer.

    Yields
    ------
    object
        What the function returned. Results wait in memory for two blocks a thread at most.
    """
    blocks = cut(n_rows, rows_at_once)
    if _in_one_thread.get():
        yield from map(function, blocks)
        return
    threads, n_threads = start_threads()
    waiting: deque[Future[Result]] = deque()
    for rows in blocks:
        waiting.append(threads.submit(function, rows))
        if len(waiting) > 2 * n_threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@cache
def start_threads() -> tuple[ThreadPoolExecutor, int]:
    """Start a thread for each processor that this process may use, once.

    Returns
    -------
    threads : ThreadPoolExecutor
    n_threads : int
    """
    # Not before there is work for them: most stages that import this module have little.
    import joblib

    n_threads = joblib.cpu_count()
    return ThreadPoolExecutor(n_threads), n_threads


def run_blocks(function: Callable[[slice], None], n_rows: int, rows_at_once: int, *, title: str | None = None) -> None:
    """Call a function on each block of rows for what it writes.

    Parameters
    ----------
    function : callable
        Takes a slice of rows, and writes to those rows alone.
    n_rows, rows_at_once : int
    title : str, optional
        Of a progress bar.
    """
    done: Iterator[None] = map_blocks(function, n_rows, rows_at_once)
    if title:
        done = iter(tqdm(done, total=len(cut(n_rows, rows_at_once)), desc=title, unit="block", disable=None))
    for _ in done:
        pass


def split(X: Rows) -> list[slice]:
    """Cut rows into partitions: those in memory are one, those in a file are cut by their shape alone."""
    if not isinstance(X, Stored):
        return [slice(0, len(X))]
    return cut(len(X), max(1, min(ROWS_PER_PARTITION, VALUES_PER_PARTITION // math.prod(X.shape[1:]))))


def cut(n_rows: int, rows_at_once: int) -> list[slice]:
    """Cut rows into as many at once; the last may be fewer."""
    return [slice(start, min(start + rows_at_once, n_rows)) for start in range(0, n_rows, rows_at_once)]


def fits(shape: tuple[int, ...]) -> bool:
    """Tell whether an array of this shape is one to hold in memory."""
    return shape[0] <= MOST_ROWS_WHOLE and math.prod(shape) <= MOST_VALUES_WHOLE


def open_rows(embedding: Rows) -> Rows:
    """Give each embedded image one row of numbers, in memory or, of a large file, partition by partition.

    Parameters
    ----------
    embedding : ndarray or Stored
        Of shape (n_images, height, width, channels), uint8, or (n_images, n_components), float32. One that is mapped
        from a file stays there if it is large.

    Returns
    -------
    ndarray or Stored
        Of shape (n_images, n_pixels), float32, in 0-1, or of shape (n_images, n_components), float32.
    """
    array = open_array(embedding)
    return array.vectors() if isinstance(array, Stored) else to_rows(array)


def open_array(array: Rows) -> Rows:
    """Give what is mapped from a file as it is if it is small, else as what is read by partitions."""
    return Stored.of(array) if isinstance(array, np.memmap) and not fits(array.shape) else array


def take(array: Rows, rows: NDArray[np.int64]) -> Rows:
    """Give some rows of an array: in memory, or of a file as what is read when it is asked for."""
    return array.take(rows) if isinstance(array, Stored) else array[rows]


def map_partitions(
    function: Callable[..., Result], *arrays: Rows, partitions: Sequence[slice] | None = None, title: str = ""
) -> Iterator[Result]:
    """Call a function on the rows of one partition after another, and give what it returns in their order.

    It runs in this process or, where rows are in a file, on the Dask cluster that the environment variable
    ``DASK_SCHEDULER_ADDRESS`` names, with the same results. What is in memory is not worth a journey, and stays here.

    Parameters
    ----------
    function : callable
        Takes an array for each of ``arrays``: their rows in a partition. On a cluster it is pickled, with what a
        ``partial`` holds.
    *arrays : ndarray or Stored
        Of as many rows each; all are cut where the first is. Workers read what is in a file by themselves, and are sent
        their rows of what is in memory beside it.
    partitions : sequence of slice, optional
        Where the rows are to be cut; by default as `split` cuts the first array.
    title : str
        Of a bar that shows the progress; without, none is shown.

    Yields
    ------
    object
        What the function returned.
    """
    return _go_through(function, arrays, None, partitions, title)


def run_partitions(
    function: Callable[..., NDArray],
    *arrays: Rows,
    out: Rows,
    partitions: Sequence[slice] | None = None,
    title: str = "",
) -> None:
    """Call a function on the rows of each partition as `map_partitions` does, and have what it returns written.

    Parameters
    ----------
    function : callable
    *arrays : ndarray or Stored
    out : ndarray or Stored
        Of as many rows. Where it is in a file, who computed a partition writes it.
    partitions : sequence of slice, optional
    title : str
    """
    for _ in _go_through(function, arrays, out, partitions, title):
        pass


def _go_through(
    function: Callable[..., Any],
    arrays: Sequence[Rows],
    out: Rows | None,
    partitions: Sequence[slice] | None,
    title: str,
) -> Iterator[Any]:
    partitions = split(arrays[0]) if partitions is None else partitions
    results: Iterator[Any]
    if any(isinstance(array, Stored) for array in arrays) and os.environ.get("DASK_SCHEDULER_ADDRESS"):
        # A run in this process alone does not pay for loading it.
        from few_labels.cluster import map_on_cluster

        results = map_on_cluster(partial(_call_in_one_thread, function), partitions, arrays, out)
    else:
        results = (deliver(function(*(array[rows] for array in arrays)), rows, out) for rows in partitions)
    if len(partitions) == 1 or not title:
        return results
    return iter(tqdm(results, total=len(partitions), desc=title, unit="partition", leave=False, disable=None))


def _call_in_one_thread(function: Callable[..., Result], *blocks: NDArray) -> Result:
    """Call a function whose blocks run one after another: a worker is given other partitions for other processors."""
    before = _in_one_thread.set(True)
    try:
        return function(*blocks)
    finally:
        _in_one_thread.reset(before)


def keep_partitions(
    function: Callable[..., NDArray[np.float32]], X: Rows, n_columns: int, path: Path | None, title: str = ""
) -> Rows:
    """Keep what a function gives for the rows of each partition: in memory where they are, or in a file.

    Parameters
    ----------
    function : callable
        Gives as many rows as it takes, of ``n_columns`` columns, float32.
    X : ndarray or Stored
    n_columns : int
    path : Path or None
        Of the file, where all who compute see it; None keeps everything in memory.
    title : str
        Of the progress.

    Returns
    -------
    ndarray or Stored
        Of shape (len(X), n_columns), float32.
    """
    if not isinstance(X, Stored):
        return function(X)
    out = make_rows(len(X), n_columns, path)
    run_partitions(function, X, out=out, title=title)
    return out


def make_rows(n_rows: int, n_columns: int, path: Path | None) -> Rows:
    """Make float32 rows that are to be written: in a file, or in memory where none is named."""
    shape = (n_rows, n_columns)
    return np.empty(shape, np.float32) if path is None else Stored.create(path, shape, np.float32)


def first_columns(X: Rows, n_columns: int) -> Rows:
    """Give the first columns of rows, or channels of images, beside each other in memory."""
    return X.columns(n_columns) if isinstance(X, Stored) else np.ascontiguousarray(X[..., :n_columns])


def join_columns(X: Rows, Y: Rows, path: Path | None = None) -> Rows:
    """Set the columns of rows beside those of others: in memory if the first are there, else in a file.

    Parameters
    ----------
    X, Y : ndarray or Stored of as many rows, float32
    path : Path or None
        Of the file, as in `keep_partitions`.

    Returns
    -------
    ndarray or Stored
        ``X`` itself where ``Y`` has no columns.
    """
    if Y.shape[1] == 0:
        return X
    if isinstance(X, np.ndarray):
        return np.hstack([X, Y[:]])
    out = make_rows(len(X), X.shape[1] + Y.shape[1], path)
    run_partitions(_beside, X, Y, out=out, title="columns")
    return out


def _beside(X: NDArray[np.float32], Y: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.hstack([X, Y])
