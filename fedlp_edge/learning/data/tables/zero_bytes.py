"""This module reads text files of which a power cut has left zero bytes, as file systems do with what was not written.

A line that holds any becomes a line of empty fields: what stood there is lost, and the rows beside it do not follow one
another.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


def is_blank(path: Path) -> bool:
    """Tells whether a file holds nothing at all, or zero bytes alone; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return not any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(_CHUNK), b""))
    except OSError:  # said where it is read
        return False


def zeroed_lines(file: BinaryIO) -> int:
    """Returns the number of lines with zero bytes.

    Args:
        file: Open file, at its beginning.

    Raises:
        OSError: The file cannot be read.
    """
    if not any(b"\0" in chunk for chunk in iter(lambda: file.read(_CHUNK), b"")):
        return 0
    file.seek(0)
    return sum(b"\0" in line for line in file)


def without_zeros(file: BinaryIO, line: bytes) -> BinaryIO:
    """Returns a file's bytes with another line in the place of each line with zero bytes.

    Args:
        file: Open file.
        line: The other line, without its end.
    """
    return io.BufferedReader(_Lines(line + b"\n" if b"\0" in each else each for each in file))


class _Lines(io.RawIOBase):
    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._lines, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
