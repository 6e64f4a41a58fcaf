"""Run a function over blocks of rows, on all processors; what it gives comes in the order of the rows.

A block is the same whatever the number of processors, and so is the order in which results are taken: sums over blocks
have the same bytes on every machine.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import joblib

Result = TypeVar("Result")

N_THREADS = joblib.cpu_count()
_threads = ThreadPoolExecutor(N_THREADS)


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
    waiting: deque[Future[Result]] = deque()
    for start in range(0, n_rows, rows_at_once):
        waiting.append(_threads.submit(function, slice(start, min(start + rows_at_once, n_rows))))
        if len(waiting) > 2 * N_THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def run_blocks(function: Callable[[slice], None], n_rows: int, rows_at_once: int) -> None:
    """Call a function on each block of rows for what it writes.

    Parameters
    ----------
    function : callable
        Takes a slice of rows, and writes to those rows alone.
    n_rows, rows_at_once : int
    """
    for _ in map_blocks(function, n_rows, rows_at_once):
        pass
