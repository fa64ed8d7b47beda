"""What a blob is called: its BLAKE3 digest, 32 bytes, written as 64 hexadecimal digits.

Every byte of a model is hashed by whoever makes it and by whoever receives it, so the speed of the function is part of
the speed of a round. SHA-256 took a fifth of the processor time of rounds that train nothing, on a processor that has
instructions for it (1.9 against 8.9 GB/s); many small boards have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

Buffer = bytes | bytearray | memoryview


class Hasher:
    """A digest that grows with its blob."""

    def __init__(self) -> None:
        self._state = blake3()

    def update(self, data: Buffer) -> None:
        """Appends to the blob."""
        self._state.update(data)

    def digest(self) -> str:
        """Of the blob so far."""
        return self._state.hexdigest()


def digest_of(blob: Buffer) -> str:
    """Digest of one buffer."""
    return digest_of_parts((blob,))


def digest_of_parts(parts: Iterable[Buffer]) -> str:
    """Digest of buffers, one behind the other."""
    hasher = Hasher()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def digest_of_file(path: Path) -> str:
    """Digest of a file.

    Raises:
        OSError: it cannot be read.
    """
    return blake3().update_mmap(path).hexdigest()
