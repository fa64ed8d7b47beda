"""This module stores the bytes of a blob while its chunks arrive, in memory or in a file.

A sink knows only offsets and bytes. Memory is for blobs that are read at once; a file keeps the memory constant however
many devices upload at the same time.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from fedlp_edge.system.files import move_into_place
from fedlp_edge.system.portable.file_access import PRIVATE, read_at, write_at
from fedlp_edge.wire.digests import Hasher, digest_of

_BLOCK = 1 << 20


class Sink(Protocol):
    """The interface of a store of fixed size for one blob."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes bytes at an offset; the caller stays within the size."""

    def digest(self) -> str:
        """Returns the digest of the whole store, as 64 hexadecimal digits."""

    def extents(self) -> list[tuple[int, int]]:
        """Returns half-open ranges of bytes that an earlier process seems to have written; the digest tells."""

    def close(self) -> None:
        """Releases open files; the written bytes stay. May be called twice."""


class MemorySink:
    """A blob in memory, allocated at once: the caller must have bounded ``size``.

    Attributes:
        buffer: Bytes of the blob.
    """

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copies ``data`` to ``offset``."""
        self.buffer[offset : offset + len(data)] = data

    def digest(self) -> str:
        """Returns the digest of the buffer."""
        return digest_of(self.buffer)

    def extents(self) -> list[tuple[int, int]]:
        """Returns nothing, since memory does not outlive its process."""
        return []

    def close(self) -> None:
        """Does nothing, since the buffer is freed with the sink."""


class FileSink:
    """A blob in a sparse file, which takes disk space only as chunks arrive.

    Nothing is flushed: the digest tells at the next start what a power cut took, which is then sent or made again.

    Chunks mostly arrive in order, so each is hashed when it is written; only bytes behind the first gap are read again.

    Args:
        path: Path of the file.
        descriptor: Descriptor of the file, open for reading and writing; the sink closes it.

    Attributes:
        path: Path of the file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file: int | None = descriptor
        self._hasher = Hasher()
        self._hashed = 0  # number of bytes from the start that are in the digest

    @classmethod
    def open(cls, path: Path, size: int, *, resume: bool = False) -> Self:
        """Creates a sparse file for a blob.

        Args:
            path: Path of the file, which is overwritten; its directory exists.
            size: Bytes of the blob.
            resume: Whether a file of this size stays as an earlier process has left it.

        Raises:
            OSError: The file cannot be created.
        """
        kept = resume and path.is_file() and path.stat().st_size == size
        truncate = 0 if kept else os.O_TRUNC
        sink = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | truncate | PRIVATE, 0o600))
        os.ftruncate(sink._descriptor(), size)
        return sink

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes ``data`` at ``offset``.

        Raises:
            OSError: The disk is full or failed, or the sink is closed.
        """
        rest = memoryview(data)
        if offset < self._hashed:  # hashed bytes are overwritten, so hashing starts again
            self._hasher, self._hashed = Hasher(), 0
        at = offset
        while rest:
            written = write_at(self._descriptor(), rest, at)
            at, rest = at + written, rest[written:]
        if offset == self._hashed:
            self._hasher.update(data)
            self._hashed = at

    def digest(self) -> str:
        """Returns the digest of the file; bytes that arrived out of order are read again in blocks."""
        while block := read_at(self._descriptor(), _BLOCK, self._hashed):
            self._hasher.update(block)
            self._hashed += len(block)
        return self._hasher.digest()

    def extents(self) -> list[tuple[int, int]]:
        """Returns the ranges of bytes that are no holes of the sparse file.

        A file system tells holes by blocks, or not at all, so what seems written may be none of the blob. Windows says
        nothing of holes: there the blob is fetched again.
        """
        ranges: list[tuple[int, int]] = []
        if sys.platform == "win32":
            return ranges
        at = 0
        with suppress(OSError):  # ENXIO: nothing is written behind this place
            while True:
                start = os.lseek(self._descriptor(), at, os.SEEK_DATA)
                at = os.lseek(self._descriptor(), start, os.SEEK_HOLE)
                ranges.append((start, at))
        return ranges

    def move(self, path: Path, size: int) -> None:
        """Renames the file on the same file system and sets its size, before any byte was written beyond that size.

        Raises:
            OSError: The disk failed, or the sink is closed.
        """
        os.close(self._descriptor())  # Windows renames no open file
        self._file = None
        try:
            move_into_place(self.path, path, durable=False)
            self.path = path
        finally:
            self._file = os.open(self.path, os.O_RDWR | PRIVATE)
        os.ftruncate(self._file, size)

    def close(self) -> None:
        """Closes the file, which stays on the disk."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()

    def _descriptor(self) -> int:
        if self._file is None:
            raise OSError(f"{self.path} is closed")
        return self._file
