"""Arrays in files, of which a block of rows is read or written at a time.

Whoever is handed one, in this process or on another machine that sees the file, reads the rows that it works on by
itself: what travels is the name of the file. Rows are read into memory and not mapped, because the pages of a map count
as memory of the process, and a worker that exceeds its limit is ended.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors

# Of one file. What fits in memory (`few_labels.blocks.fits`) is no larger.
MOST_BYTES_PER_FILE = 2**29
PART = "{:05}.npy"


@dataclass(frozen=True)
class Stored:
    """An array in a ``.npy`` file or in a folder of them, indexed along its rows like one in memory.

    Attributes
    ----------
    path : str
        Of the file or the folder: absolute, as all who read it see it.
    offset : int
        Bytes before the first row of a file.
    stored_shape : tuple of int
        Of the whole array, as it is in the files.
    stored_dtype : dtype
    rows_per_file : int or None
        Of each file in a folder but the last, which may have fewer; None where there is one file and no folder.
    as_vectors : bool
        Whether images are given as rows of pixels, float32 in 0-1.
    n_columns : int or None
        How many columns of a table of rows are given, or channels of images; None gives all.
    taken : ndarray of shape (n_taken,), int64, or None
        Which rows of the file there are, in which order; None takes all.
    """

    path: str
    offset: int
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    rows_per_file: int | None = None
    as_vectors: bool = False
    n_columns: int | None = None
    taken: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, mapped: np.memmap) -> "Stored":
        """Name what `numpy.load` mapped from a ``.npy`` file, of which no page was read yet.

        Raises
        ------
        ValueError
            If its rows are not one after the other.
        """
        if not mapped.flags.c_contiguous:
            raise ValueError(f"{Path(str(mapped.filename)).name} is in Fortran order")
        return cls(str(Path(str(mapped.filename)).absolute()), mapped.offset, mapped.shape, mapped.dtype)

    @classmethod
    def open_folder(cls, folder: Path) -> "Stored":
        """Open a folder of files that `create` made.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        names = list_parts(folder)
        if not names:
            raise ValueError(
                f"a folder of an array holds {PART.format(0)}, {PART.format(1)} and so on, and nothing else"
            )
        # One after the other: a process may not have as many files open as there may be parts.
        parts = [cls.of(np.load(folder / name, "r")) for name in names]
        layouts = [(part.stored_shape, part.stored_dtype, part.offset) for part in parts]
        (rows, *row), dtype, offset = layouts[0]
        for name, (shape, *layout) in zip(names, layouts, strict=True):
            n_rows = shape[0] if name == names[-1] and shape[0] < rows else rows
            if (shape, *layout) != ((n_rows, *row), dtype, offset):
                raise ValueError(f"{name} is {layout[0]} of shape {shape}, {names[0]} {dtype} of {(rows, *row)}")
        n_rows = sum(shape[0] for shape, *_ in layouts)
        return cls(str(folder.absolute()), offset, (n_rows, *row), dtype, rows)

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> "Stored":
        """Make a file of zeros, whose rows are to be written, or a folder of files where one would be large."""
        remove(path)
        row_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        if shape[0] * row_bytes <= MOST_BYTES_PER_FILE:
            return cls._create_file(path, shape, dtype)
        path.mkdir()
        rows_per_file = max(1, MOST_BYTES_PER_FILE // row_bytes)
        for position, start in enumerate(range(0, shape[0], rows_per_file)):
            n_rows = min(rows_per_file, shape[0] - start)
            cls._create_file(path / PART.format(position), (n_rows, *shape[1:]), dtype)
        return cls.open_folder(path)

    @classmethod
    def _create_file(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> "Stored":
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
        return (len(self), *row) if self.n_columns is None else (len(self), *row[:-1], self.n_columns)

    @property
    def dtype(self) -> np.dtype:
        """What an array of all rows would have."""
        return np.dtype(np.float32) if self.as_vectors else self.stored_dtype

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.stored_shape[1:]) * self.stored_dtype.itemsize

    def __len__(self) -> int:
        return self.stored_shape[0] if self.taken is None else len(self.taken)

    def __getitem__(self, rows: slice | int | NDArray[np.integer]) -> NDArray:
        """Read rows: a block, one, or those of any positions, in their order."""
        if isinstance(rows, int | np.integer):
            return self[np.array([rows])][0]
        if self.taken is not None:
            rows = self.taken[rows]
        if isinstance(rows, np.ndarray) and len(rows) and (np.diff(rows) == 1).all():
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.stored_shape[0])
            read = self._read(start, max(stop - start, 0))
        else:
            read = np.empty((len(rows), *self.stored_shape[1:]), self.stored_dtype)
            for place, row in enumerate(rows.tolist()):
                read[place] = self._read(row, 1)[0]
        given = to_pixel_vectors(read) if self.as_vectors else read
        return given if self.n_columns is None else np.ascontiguousarray(given[..., : self.n_columns])

    def _read(self, start: int, n_rows: int) -> NDArray:
        read = np.empty((n_rows, *self.stored_shape[1:]), self.stored_dtype)
        for path, place, content in self._find(start, read):
            with Path(path).open("rb") as file:
                file.seek(place)
                if file.readinto(content) < len(content):
                    raise InputError(f"{path}: it ends before row {start + n_rows}")
        return read

    def __setitem__(self, rows: slice, values: NDArray) -> None:
        """Write a block of rows as they are in the files; others may write other blocks meanwhile."""
        start, stop, _ = rows.indices(len(self))
        block = np.ascontiguousarray(values, self.stored_dtype)
        if block.shape != (stop - start, *self.stored_shape[1:]):
            raise ValueError(f"values of shape {block.shape} for {stop - start} rows of {self.stored_shape[1:]}")
        for path, place, content in self._find(start, block):
            with Path(path).open("r+b") as file:
                file.seek(place)
                file.write(content)

    def _find(self, start: int, block: NDArray) -> Iterator[tuple[str, int, memoryview]]:
        """Say where a block of rows is: the file, the place in it, and the bytes of the block that belong there."""
        values, stop = block.reshape(-1).view(np.uint8).data, start + len(block)
        in_one = self.rows_per_file or max(stop, 1)
        for first in range(start // in_one * in_one, stop, in_one):
            path = self.path if self.rows_per_file is None else f"{self.path}/{PART.format(first // in_one)}"
            begin, end = max(start, first), min(stop, first + in_one)
            here = values[(begin - start) * self._row_bytes : (end - start) * self._row_bytes]
            yield path, self.offset + (begin - first) * self._row_bytes, here

    def vectors(self) -> "Stored":
        """Give images as rows of pixels in 0-1, and rows of numbers as they are."""
        return replace(self, as_vectors=self.stored_dtype == np.uint8)

    def take(self, rows: NDArray[np.int64]) -> "Stored":
        """Give some rows, which are read when they are asked for."""
        return replace(self, taken=rows if self.taken is None else self.taken[rows])

    def columns(self, n_columns: int) -> "Stored":
        """Give the first columns of rows, or channels of images."""
        return replace(self, n_columns=n_columns)


def list_parts(folder: Path) -> list[str]:
    """List the files of a folder in order, if all are named as those of an array are; no folder has none."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    return names if names == [PART.format(position) for position in range(len(names))] else []


def remove(path: Path) -> None:
    """Remove an array, in a file or a folder, or any other file; there may be none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# An array in memory or in a file: methods take both, and give the same bytes for both.
Rows = NDArray | Stored


def deliver(result: Any, rows: slice, out: Rows | None) -> Any:
    """Give what was computed for some rows or, where it is to be kept, write it there and give None."""
    if out is None:
        return result
    out[rows] = result
    return None
