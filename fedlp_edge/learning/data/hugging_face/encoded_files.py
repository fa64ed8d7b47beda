"""This module keeps pictures and sounds that came out of tables, in memory or, if they are large, in a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal, overload

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.byte_spool import ByteSpool
from fedlp_edge.system.portable.file_access import read_at


class EncodedFile:
    """Stands for one file that lies in a field of a table, with those methods of a path by which it is read.

    Args:
        files: All files.
        number: Number of this one.
    """

    __slots__ = ("_files", "_number")

    def __init__(self, files: EncodedFiles, number: int) -> None:
        self._files = files
        self._number = number

    def __str__(self) -> str:
        return self._files.names[self._number]

    def open(self, mode: Literal["rb"]) -> IO[bytes]:  # noqa: ARG002 - as a path has it
        """Opens the file for reading.

        Raises:
            OSError: The temporary file cannot be read.
        """
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Returns the contents.

        Raises:
            OSError: The temporary file cannot be read.
        """
        return self._files.read(self._number)


class EncodedFiles(Sequence[EncodedFile]):
    """Gives encoded files one by one.

    Args:
        contents: The files one after the other, in memory, or the temporary file that holds them.
        ends: Position behind the last byte of each of the N files, int64 [N].
        names: Name of each file in messages, N.
    """

    def __init__(self, contents: bytes | IO[bytes], ends: npt.NDArray[np.int64], names: Sequence[str]) -> None:
        self._contents = contents
        self._ends = ends
        self.names = names

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def nbytes(self) -> int:
        """Memory that the contents take, bytes; none if they are in a file."""
        return len(self._contents) if isinstance(self._contents, bytes) else 0

    @overload
    def __getitem__(self, index: int) -> EncodedFile: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedFile]: ...
    def __getitem__(self, index: int | slice) -> EncodedFile | list[EncodedFile]:
        """Returns one file, or some."""
        if isinstance(index, slice):
            return [EncodedFile(self, number) for number in range(len(self))[index]]
        return EncodedFile(self, range(len(self))[index])

    def read(self, number: int) -> bytes:
        """Returns the contents of a file.

        Raises:
            OSError: The temporary file cannot be read.
        """
        begin, end = int(self._ends[number - 1]) if number else 0, int(self._ends[number])
        if isinstance(self._contents, bytes):
            return self._contents[begin:end]
        return read_at(self._contents.fileno(), end - begin, begin)


class EncodedSpool:
    """Collects encoded files, in memory as long as they are small together, else in a file that ends with the process.

    Args:
        bound: Most bytes in memory.
        directory: Directory of the file; None for the system's directory of temporary files.
    """

    def __init__(self, bound: int, directory: Path | None) -> None:
        self._spool = ByteSpool[bytes](bound, directory, "the encoded files")
        self._ends: list[int] = []

    def add(self, content: bytes) -> None:
        """Takes one more file.

        Raises:
            DataError: There is no room for the temporary file.
        """
        self._ends.append((self._ends[-1] if self._ends else 0) + len(content))
        self._spool.add(content)

    def finish(self, names: Sequence[str]) -> EncodedFiles:
        """Returns all files that were taken.

        Args:
            names: Name of each in messages.

        Raises:
            DataError: There is no room for the temporary file.
        """
        found = self._spool.finish()
        contents = b"".join(found) if isinstance(found, list) else found
        return EncodedFiles(contents, np.asarray(self._ends, np.int64), names)
