"""What the cases share: the shape of a measurement, a clock, the project's data and its parameters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from few_labels.images import to_pixel_vectors

PROJECT = Path(__file__).parent.parent


@dataclass
class Measurement:
    """What one run took, and what it was worth.

    Attributes
    ----------
    seconds : float
        Of the measured part alone, without imports and loading.
    quality : str
        An accuracy, an inertia or the like; ``-`` where there is none.
    peak_mb : float
        The most memory that a process of the run held, in MB of 1024 x 1024 bytes; the runner fills it in.
    """

    seconds: float = 0.0
    quality: str = "-"
    peak_mb: float = 0.0

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Add the wall time of a block."""
        start = perf_counter()
        yield
        self.seconds += perf_counter() - start


@dataclass(frozen=True)
class System:
    """One side of a comparison.

    Attributes
    ----------
    case : str
        What is compared: systems of one case stand side by side. It starts with the name of its module.
    name : str
        ``ours``, or whose function it is.
    measure : callable
        Runs it once, in a process of its own.
    n_runs : int
        How often it runs; the median counts. One that takes over five minutes runs once.
    cap : float or None
        Seconds after which its process is stopped.
    """

    case: str
    name: str
    measure: Callable[[], Measurement] = field(repr=False)
    n_runs: int = 3
    cap: float | None = None


def params() -> dict[str, Any]:
    """Read params.yaml: ours runs as the pipeline runs."""
    return yaml.safe_load((PROJECT / "params.yaml").read_text())


def load(name: str) -> NDArray:
    """Read one of the arrays that the download stage wrote, such as ``train_images``."""
    return np.load(PROJECT / "data" / f"{name}.npy")


def load_pixels(part: str) -> NDArray[np.float32]:
    """Give the images of ``train`` or ``test`` as rows of pixels in 0-1."""
    return to_pixel_vectors(load(f"{part}_images"))
