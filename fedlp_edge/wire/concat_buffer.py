"""This module reads several buffers as one without copying: the parts of an update stay separate files.

An update of 45 MB is sent in chunks of 512 KiB; joining its parts first would write all of it once more.
"""

from __future__ import annotations

import mmap
import sys
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from fedlp_edge.wire.digests import digest_of_parts


class ConcatBuffer:
    """A read-only concatenation of buffers.

    Args:
        buffers: Buffers, which must not change while this object is in use; they may be empty.
    """

    def __init__(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        self._buffers = [view for buffer in buffers if (view := memoryview(buffer).cast("B"))]
        self._ends = list(accumulate(len(buffer) for buffer in self._buffers))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def cut(self, start: int, stop: int) -> list[memoryview]:
        """Returns the bytes from ``start`` to ``stop`` as one view per buffer; nothing is copied."""
        pieces: list[memoryview] = []
        number = bisect_right(self._ends, start)
        while start < min(stop, len(self)):
            buffer, end = self._buffers[number], self._ends[number]
            begin = end - len(buffer)
            piece = buffer[start - begin : stop - begin]
            pieces.append(piece)
            start, number = start + len(piece), number + 1
        return pieces

    def digest(self) -> str:
        """Returns the digest of all bytes."""
        return digest_of_parts(self._buffers)


def mapped(path: Path) -> memoryview:
    """Maps a file into memory, or reads it; the file must not be changed in place while the view is in use.

    Raises:
        OSError: The file cannot be read.
    """
    if sys.platform == "win32":  # where a file that is mapped can be neither replaced nor removed
        return memoryview(path.read_bytes())
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b"")
