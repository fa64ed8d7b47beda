"""Keeps downloaded blobs on the disk by their digest, so that no unchanged unit is downloaded again after a restart.

Only what the last task named is kept, so the cache never takes more than one model and one download. A download of a
release, which may be large, goes on where an earlier life of the agent has got to, and a file that is installed is not
downloaded at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import PARTIAL, move_into_place, remove_partials
from fedlp_edge.wire.chunks import FileSink
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.wire.digests import digest_of_file
from fedlp_edge.wire.messages import UnitVersion


class BlobCache:
    """A directory of blobs that implements ``BlobStore``.

    Args:
        directory: Made if missing; half-written blobs of an earlier life are removed.
        resume: Whether half-written blobs stay instead, and are gone on with.
        others: Returns the files elsewhere on the same file system that may be a blob, by its digest.

    Raises:
        StorageError: The directory cannot be made or written to.
    """

    def __init__(
        self,
        directory: Path,
        *,
        resume: bool = False,
        others: Callable[[str], Iterable[Path]] = lambda _digest: (),
    ) -> None:
        self._directory = make_directory(directory)
        self._verified: set[str] = set()
        self._sinks: dict[str, FileSink] = {}
        self._resume = resume
        self._others = others
        if not resume:
            remove_partials(directory)

    def path(self, digest: str) -> Path:
        """Returns the path of a blob; its file is there if ``has`` says so."""
        return self._directory / digest

    def has(self, digest: str) -> bool:
        """Returns whether a blob is there; its bytes are verified once in each life of the agent."""
        if digest in self._verified:
            return True
        path = self.path(digest)
        if not path.is_file() and not self._link(digest):
            return False
        whole = digest_of_file(path) == digest
        if whole:
            self._verified.add(digest)
        else:
            path.unlink()
        return whole

    def _link(self, digest: str) -> bool:
        """Makes a file that lies elsewhere this blob, without a second copy; returns whether there is one."""
        for other in self._others(digest):
            with suppress(OSError):  # a file system without links, or one that is damaged
                if digest_of_file(other) == digest:
                    os.link(other, self.path(digest))
                    return True
        return False

    def begin(self, version: UnitVersion) -> FileSink:
        """Makes a file for the bytes of a download."""
        sink = self._sinks[version.digest] = FileSink.open(self._partial(version), version.size, resume=self._resume)
        return sink

    def written(self, version: UnitVersion) -> memoryview:
        """Returns the bytes of a download so far."""
        return mapped(self._sinks[version.digest].path)

    def rename(self, version: UnitVersion, known: UnitVersion) -> None:
        """Renames a download that was begun as ``version`` to ``known``, which is no larger."""
        sink = self._sinks[known.digest] = self._sinks.pop(version.digest)
        sink.move(self._partial(known), known.size)

    def keep(self, version: UnitVersion) -> None:
        """Makes a finished download a blob of the cache."""
        sink = self._sinks.pop(version.digest)
        sink.close()
        # Not flushed: should a power cut halve it, ``has`` finds out in the next life, and it is fetched again.
        move_into_place(sink.path, self.path(version.digest), durable=False)
        self._verified.add(version.digest)

    def discard(self, version: UnitVersion) -> None:
        """Removes an unfinished download."""
        sink = self._sinks.pop(version.digest, None)
        if sink is not None:
            sink.close()
        with suppress(OSError):
            self._partial(version).unlink(missing_ok=True)

    def keep_only(self, digests: Collection[str]) -> None:
        """Removes every blob but these; what a read-only disk does not let go stays for the next time."""
        for path in self._directory.iterdir():
            partial = path.suffix == PARTIAL
            left_over = self._resume and path.stem not in self._sinks
            if left_over if partial else path.name not in digests:
                with suppress(OSError):
                    path.unlink()
        self._verified &= set(digests)

    def _partial(self, version: UnitVersion) -> Path:
        return self._directory / f"{version.digest}{PARTIAL}"
