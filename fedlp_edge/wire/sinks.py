"""Where the bytes of a blob are put while its chunks arrive.

A sink knows offsets and bytes alone. The one in memory is for blobs that are read at once; the one in a file
keeps memory flat however many devices upload at the same time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from fedlp_edge.system.files import move_into_place
from fedlp_edge.wire.digests import Hasher, digest_of

_BLOCK = 1 << 20


class Sink(Protocol):
    """A place of fixed size for one blob."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Puts bytes at their place; the caller keeps within the size."""

    def digest(self) -> str:
        """Digest of the whole place, as 64 hexadecimal digits."""

    def close(self) -> None:
        """Lets go of what is held open; what was written stays. May be called twice."""


class MemorySink:
    """A blob in memory, allocated at once: the caller must have bounded ``size``.

    Attributes:
        buffer: the bytes.
    """

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copies ``data`` to ``offset``."""
        self.buffer[offset : offset + len(data)] = data

    def digest(self) -> str:
        """Digest of the buffer."""
        return digest_of(self.buffer)

    def close(self) -> None:
        """Does nothing: the buffer belongs to whoever holds the sink."""


class FileSink:
    """A blob in a sparse file, which takes room on the disk only as chunks arrive.

    Chunks mostly come in order, so each is hashed while it is at hand; only what follows the first gap is read again.

    Args:
        path: written anew; its directory exists.
        size: of the blob.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._file: int | None = None
        self._hasher = Hasher()
        self._hashed = 0  # bytes from the start on that are in the digest
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes ``data`` at ``offset``.

        Raises:
            OSError: the disk is full or failed, or the sink is closed.
        """
        rest = memoryview(data)
        if offset < self._hashed:  # written anew: what was hashed no longer counts
            self._hasher, self._hashed = Hasher(), 0
        at = offset
        while rest:
            written = os.pwrite(self._descriptor(), rest, at)
            at, rest = at + written, rest[written:]
        if offset == self._hashed:
            self._hasher.update(data)
            self._hashed = at

    def digest(self) -> str:
        """Digest of the file; what came out of order is read in blocks."""
        while block := os.pread(self._descriptor(), _BLOCK, self._hashed):
            self._hasher.update(block)
            self._hashed += len(block)
        return self._hasher.digest()

    def move(self, path: Path, size: int) -> None:
        """Goes on under another path of the same file system, with another size; before anything stands beyond that.

        Raises:
            OSError: the disk failed, or the sink is closed.
        """
        move_into_place(self.path, path, durable=False)
        self.path = path
        os.ftruncate(self._descriptor(), size)

    def sync(self) -> None:
        """Waits until the disk has it all.

        Raises:
            OSError: the disk failed, or the sink is closed.
        """
        os.fsync(self._descriptor())

    def close(self) -> None:
        """Closes the file and leaves it where it is."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()

    def _descriptor(self) -> int:
        if self._file is None:
            raise OSError(f"{self.path} is closed")
        return self._file
