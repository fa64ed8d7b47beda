"""This module collects bytes, in memory as long as they are few, else in a file that vanishes with the process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Generic, TypeVar

from fedlp_edge.errors import DataError

Part = TypeVar("Part", bytes, memoryview)


class ByteSpool(Generic[Part]):
    """Collects parts, such as files or the memory of arrays, in their order.

    Args:
        bound: Most bytes in memory.
        directory: Directory of the file; None for the system's directory of temporary files.
        what: What the parts are together, for messages.
    """

    def __init__(self, bound: int, directory: Path | None, what: str) -> None:
        self._bound = bound
        self._directory = directory
        self._what = what
        self._parts: list[Part] = []
        self._in_memory = 0
        self._file: IO[bytes] | None = None

    def add(self, part: Part) -> None:
        """Takes one more part, whose bytes lie in a row.

        Raises:
            DataError: There is no room for the file.
        """
        self._parts.append(part)
        self._in_memory += memoryview(part).nbytes
        if self._in_memory > self._bound:
            self._move_out()

    def finish(self) -> list[Part] | IO[bytes]:
        """Returns the parts, if they are in memory, or the file that holds one after the other.

        Raises:
            DataError: There is no room for the file.
        """
        if self._file is not None:
            self._move_out()
        parts, self._parts = self._parts, []
        return parts if self._file is None else self._file

    def _move_out(self) -> None:
        try:
            if self._file is None:
                if self._directory is not None:
                    self._directory.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - it is used until the end
            self._file.writelines(self._parts)
            self._file.flush()
        except OSError as error:
            place = self._directory or "the directory for temporary files"
            raise DataError(
                f"cannot keep {self._what} in {place}: {error.strerror}; name a directory with FEDLP_CACHE_DIR"
            ) from None
        self._parts, self._in_memory = [], 0
