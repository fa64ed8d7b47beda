"""Several buffers read as one, without joining them: the parts of an update stay the files that they are.

An update of 45 MB is sent in pieces of 256 KiB; joining its parts first would write all of it once more.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from fedlp_edge.wire.digests import digest_of_parts


class ConcatBuffer:
    """Buffers one behind the other.

    Args:
        buffers: not changed while this lives; empty ones are fine.
    """

    def __init__(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        self._buffers = [view for buffer in buffers if (view := memoryview(buffer).cast("B"))]
        self._ends = list(accumulate(len(buffer) for buffer in self._buffers))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def cut(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from ``start`` to ``stop``, in as many pieces as they lie in; nothing is copied."""
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
        """Digest of all bytes."""
        return digest_of_parts(self._buffers)


def mapped(path: Path) -> memoryview:
    """A file's bytes, read from the disk as they are touched; not to be changed in place meanwhile.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b"")
