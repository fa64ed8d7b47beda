"""Collects chunks of a unit that no task has named yet, where the download will want them.

The coordinator broadcasts a new version as soon as it has been computed, before it has written its checkpoint; the task
that names the version comes later. What is held until then is written to its place and hashed as it comes, so
the download that takes it over has little left to do. Only the last chunk stays in memory: its length, which no chunk
before it tells, is that of the blob.
"""

from __future__ import annotations

from typing import Protocol

from fedlp_edge.wire.chunks import PREFIX_BYTES, Assembly, Chunk, Sink, chunk_count
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import UnitVersion


class PrefetchStore(Protocol):
    """The interface of a store for blobs whose digest and size are not known yet."""

    def begin(self, version: UnitVersion) -> Sink:
        """Makes a place for the bytes of a blob."""

    def rename(self, version: UnitVersion, known: UnitVersion) -> None:
        """Renames what was begun as ``version`` to ``known``, which is no larger."""

    def discard(self, version: UnitVersion) -> None:
        """Removes what was written since ``begin``."""


class PrefetchedBlob:
    """The chunks of one version of one unit whose digest is not known yet.

    Args:
        unit: Id of the unit that it is a version of.
        first: Chunk of it; the others have to fit what this one says.
        most: Bytes that the unit can have; a version that must be larger is not held.
        store: Store of the bytes.
    """

    def __init__(self, unit: str, first: Chunk, most: int, store: PrefetchStore) -> None:
        self.prefix = first.prefix
        self._unit = unit
        self._count = first.count
        self._most = most
        self._store = store
        self._begun: tuple[UnitVersion, Assembly] | None = None
        self._last: Chunk | None = None

    def add(self, chunk: Chunk) -> None:
        """Takes a chunk that has this prefix, or drops it if it does not fit the others."""
        if chunk.count != self._count:
            return
        if chunk.index < self._count - 1:
            assembly = self._assembly(len(chunk.payload))
            if assembly is not None:
                assembly.add(chunk)
        elif len(chunk.payload) <= self._most:
            self._last = chunk

    def take_over(self, version: UnitVersion) -> tuple[Assembly | None, Chunk | None]:
        """Hands the chunks over to the download, since a task names the version.

        Args:
            version: Version of the same unit.

        Returns:
            The download so far, if anything of this very version has come that is worth going on with; and the last
            chunk, which is still to be added.
        """
        same = bytes.fromhex(version.digest)[:PREFIX_BYTES] == self.prefix
        if not same or self._begun is None:
            self.discard()
            return None, self._last if same else None
        begun, assembly = self._begun
        if (begun.chunk_bytes, self._count) != (version.chunk_bytes, chunk_count(version.size, version.chunk_bytes)):
            self.discard()
            return None, None
        self._store.rename(begun, version)
        assembly.identify(version.digest, version.size)
        return assembly, self._last

    def discard(self) -> None:
        """Drops all chunks that were held."""
        if self._begun is not None:
            begun, assembly = self._begun
            assembly.abandon()
            self._store.discard(begun)
            self._begun = None

    def _assembly(self, chunk_bytes: int) -> Assembly | None:
        if self._begun is None and chunk_bytes * (self._count - 1) < self._most:
            size = chunk_bytes * self._count  # at the most
            # The other half is that of the unit, so that no two units write to one place.
            half = digest_of(self._unit.encode())[2 * PREFIX_BYTES :]
            begun = UnitVersion(self._unit, self.prefix.hex() + half, size, chunk_bytes)
            self._begun = begun, Assembly(begun.digest, size, chunk_bytes, self._store.begin(begun))
        return self._begun[1] if self._begun else None
