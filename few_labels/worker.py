"""What a worker of a Dask cluster needs before it starts: ``dask worker --preload-nanny few_labels.worker``.

The nanny is the process that starts a worker's own, and starts it again when it dies: what it has in its environment is
there before the worker imports the first library that computes.
"""

from typing import Any

from few_labels.kernels import set_environment


def dask_setup(nanny: Any) -> None:
    """Pin the kernels of the processes that a nanny is about to start, as those of a stage are."""
    set_environment()
