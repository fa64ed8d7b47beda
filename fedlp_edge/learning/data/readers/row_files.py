"""This module reads rows of an array from a file, so that the array need not fit into memory.

The file is read and not mapped into memory: mapped pages count as memory of the process, and a file that is cut short
while it is mapped would end the process instead of raising an error. The system keeps what it can of the file either
way.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataAwayError, DataError
from fedlp_edge.learning.data.byte_spool import ByteSpool
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.system.portable.file_access import read_into

_BUFFER = 1 << 22  # bytes that are converted together

AnyArray = npt.NDArray[Any]


class Rows(Protocol):
    """Gives rows of an array, which is in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, rows first."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that the rows take, bytes."""
        ...

    def take(self, indices: Indices) -> AnyArray:
        """Returns a copy of the rows at some positions, [B, ...].

        Raises:
            DataError: The file has become unusable.
        """
        ...


class ArrayRows:
    """Gives rows of an array in memory.

    Args:
        values: Array, [N, ...].
    """

    def __init__(self, values: AnyArray) -> None:
        self._values = values
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype[Any] = values.dtype
        self.nbytes = values.nbytes

    def take(self, indices: Indices) -> AnyArray:
        """Returns a copy of the rows at some positions, [B, ...]."""
        return np.asarray(self._values[indices])


class FileRows:
    """Gives rows of an array in a file.

    Args:
        file: File that is open for reading as bytes, and stays so as long as the rows are used.
        name: Name of the file in messages.
        offset: Position of the first row, bytes.
        shape: Shape of the array, rows first.
        dtype: Type of the values.
    """

    nbytes = 0

    def __init__(self, file: IO[bytes], name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._file = file
        self._name = name
        self._offset = offset
        self.shape = shape
        self.dtype = dtype

    def take(self, indices: Indices) -> AnyArray:
        """Reads the rows at some positions, [B, ...]; successive ones at once.

        Raises:
            DataAwayError: The file cannot be read any more.
            DataError: It has become shorter.
        """
        made = np.empty((len(indices), *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        target = memoryview(made.reshape(-1).view(np.uint8).data)
        breaks = (np.flatnonzero(np.diff(indices) != 1) + 1).tolist() if len(indices) else []
        for begin, end in zip([0, *breaks], [*breaks, len(indices)], strict=True):
            self._fill(target[begin * size : end * size], self._offset + (int(indices[begin]) * size if end else 0))
        return made

    def _fill(self, place: memoryview, position: int) -> None:
        while place:
            try:
                count = read_into(self._file.fileno(), place, position)
            except OSError as error:
                raise DataAwayError(f"cannot read {self._name}: {error.strerror}") from None
            if not count:
                raise DataError(f"{self._name} has become shorter while it was used")
            place, position = place[count:], position + count


class RowSpool:
    """Collects rows, in memory as long as they are few, else in a file that vanishes with the process.

    Args:
        bound: Most bytes in memory.
        directory: Directory of the file; None for the system's directory of temporary files.
    """

    def __init__(self, bound: int, directory: Path | None) -> None:
        self._spool = ByteSpool[memoryview](bound, directory, "the table")
        self._rows = self._columns = 0

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Takes more rows, float32 [n, F].

        Raises:
            DataError: There is no room for the file.
        """
        self._rows += len(rows)
        self._columns = rows.shape[1]
        self._spool.add(np.ascontiguousarray(rows).data)

    def finish(self) -> Rows:
        """Returns all rows that were taken, float32 [N, F]; one part at least.

        Raises:
            DataError: There is no room for the file.
        """
        found = self._spool.finish()
        if isinstance(found, list):
            parts = [np.asarray(part) for part in found]
            return ArrayRows(np.concatenate(parts) if len(parts) > 1 else parts[0])
        return FileRows(found, "the table's temporary copy", 0, (self._rows, self._columns), np.dtype(np.float32))


def open_array(path: Path) -> FileRows:
    """Opens an array in an ``.npy`` file.

    Raises:
        DataError: The file is missing, no array of numbers, or shorter than its header says.
    """
    try:
        file = path.open("rb")
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
        offset, size = file.tell(), file.seek(0, io.SEEK_END)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise DataError(f"{path} is no array: save it with numpy.save") from None
    if dtype.hasobject:
        raise DataError(f"{path} holds Python objects, which are refused: save plain numbers")
    if columns_first and len(shape) > 1:
        raise DataError(f"{path} is stored by columns: save numpy.ascontiguousarray(x)")
    if size < offset + math.prod(shape) * dtype.itemsize:
        raise DataError(f"{path} is cut short: its header announces {list(shape)}")
    return FileRows(file, str(path), offset, shape, dtype)
