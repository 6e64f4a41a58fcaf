"""Arrays in files, of which a block of rows is read or written at a time.

Whoever is handed one, in this process or on another machine that sees the file, reads the rows that it works on by
itself: what travels is the name of the file. Rows are read into memory and not mapped, because the pages of a map count
as memory of the process, and a worker that exceeds its limit is ended.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors


@dataclass(frozen=True)
class Stored:
    """An array in a ``.npy`` file, indexed along its rows like one in memory.

    Attributes
    ----------
    path : str
        Absolute, as all who read it see it.
    offset : int
        Bytes before the first row.
    stored_shape : tuple of int
        Of the whole array, as it is in the file.
    stored_dtype : dtype
    as_vectors : bool
        Whether images are given as rows of pixels, float32 in 0-1.
    n_columns : int or None
        How many columns of a table of rows are given; None gives all.
    taken : ndarray of shape (n_taken,), int64, or None
        Which rows of the file there are, in which order; None takes all.
    """

    path: str
    offset: int
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    as_vectors: bool = False
    n_columns: int | None = None
    taken: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, mapped: np.memmap) -> "Stored":
        """Name what `numpy.load` mapped from a ``.npy`` file, of which no page was read yet."""
        return cls(str(Path(str(mapped.filename)).absolute()), mapped.offset, mapped.shape, mapped.dtype)

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> "Stored":
        """Make a file of zeros, whose rows are to be written."""
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        with path.open("wb") as file:
            npy.write_array_header_1_0(file, header)
            stored = cls(str(path.absolute()), file.tell(), shape, np.dtype(dtype))
            file.truncate(stored.offset + len(stored) * stored._row_bytes)
        return stored

    @property
    def shape(self) -> tuple[int, ...]:
        """What an array of all rows would have."""
        row = (math.prod(self.stored_shape[1:]),) if self.as_vectors else self.stored_shape[1:]
        return (len(self), *row) if self.n_columns is None else (len(self), self.n_columns)

    @property
    def dtype(self) -> np.dtype:
        """What an array of all rows would have."""
        return np.dtype(np.float32) if self.as_vectors else self.stored_dtype

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.stored_shape[1:]) * self.stored_dtype.itemsize

    def __len__(self) -> int:
        return self.stored_shape[0] if self.taken is None else len(self.taken)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray:
        """Read rows: a block, or those of any positions, in their order."""
        if self.taken is not None:
            rows = self.taken[rows]
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.stored_shape[0])
            read = self._read(start, max(stop - start, 0))
        else:
            read = np.empty((len(rows), *self.stored_shape[1:]), self.stored_dtype)
            for place, row in enumerate(rows.tolist()):
                read[place] = self._read(row, 1)[0]
        given = to_pixel_vectors(read) if self.as_vectors else read
        return given if self.n_columns is None else np.ascontiguousarray(given[:, : self.n_columns])

    def _read(self, start: int, n_rows: int) -> NDArray:
        read = np.empty((n_rows, *self.stored_shape[1:]), self.stored_dtype)
        with Path(self.path).open("rb", buffering=0) as file:
            file.seek(self.offset + start * self._row_bytes)
            left = read.reshape(-1).view(np.uint8).data
            while len(left):
                n_bytes = file.readinto(left)
                if not n_bytes:
                    raise InputError(f"{self.path}: it ends before row {start + n_rows}")
                left = left[n_bytes:]
        return read

    def __setitem__(self, rows: slice, values: NDArray) -> None:
        """Write a block of rows as they are in the file; others may write other blocks meanwhile."""
        start, stop, _ = rows.indices(len(self))
        block = np.ascontiguousarray(values, self.stored_dtype)
        if block.shape != (stop - start, *self.stored_shape[1:]):
            raise ValueError(f"values of shape {block.shape} for {stop - start} rows of {self.stored_shape[1:]}")
        left, place = block.reshape(-1).view(np.uint8).data, start * self._row_bytes
        file = os.open(self.path, os.O_WRONLY)
        try:
            while len(left):
                n_bytes = os.pwrite(file, left, self.offset + place)
                left, place = left[n_bytes:], place + n_bytes
        finally:
            os.close(file)

    def vectors(self) -> "Stored":
        """Give images as rows of pixels in 0-1, and rows of numbers as they are."""
        return replace(self, as_vectors=self.stored_dtype == np.uint8)

    def take(self, rows: NDArray[np.int64]) -> "Stored":
        """Give some rows, which are read when they are asked for."""
        return replace(self, taken=rows)

    def columns(self, n_columns: int) -> "Stored":
        """Give the first columns of rows."""
        return replace(self, n_columns=n_columns)


# An array in memory or in a file: methods take both, and give the same bytes for both.
Rows = NDArray | Stored


def deliver(result: Any, rows: slice, out: Rows | None) -> Any:
    """Give what was computed for some rows or, where it is to be kept, write it there and give None."""
    if out is None:
        return result
    out[rows] = result
    return None
