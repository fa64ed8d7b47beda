"""Finished updates on disk, until the coordinator has spoken its final word on each.

Training is what a round costs; a lost broker or a restart of either side must not cost it twice. An entry is a blob
and a small JSON file that names it. The JSON file is written last and removed first, so an entry is either whole or
not there. Nothing waits for the disk: a power cut within the seconds until the kernel has written may cost an entry,
which the digest tells at the next start; the same task then gives the same update again.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.files import make_directory, remove_partials, write_atomic
from fedlp_edge.wire.chunks import chunk_count
from fedlp_edge.wire.messages import Digest, Name, Natural, Offer, UnitPayload

log = logging.getLogger(__name__)


class UpdateId(NamedTuple):
    """Names one update of this device; the digest tells two trainings of one round apart."""

    run: str
    round: int
    digest: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A finished update, without its bytes.

    Attributes:
        run: its run.
        round: its round.
        device: that trained it.
        fingerprint: of the task that it answers; the same task again needs no new training.
        digest: SHA-256 of the blob.
        size: bytes of the blob.
        units: its parts, in the order of the blueprint.
        samples: that it rests on.
        loss: mean training loss of the last epoch.
        seconds: of training.
        bytes_down: model bytes received for the round.
        peak_memory: bytes that training took.
        chunk_bytes: payload bytes of its chunks.
    """

    run: Name
    round: Natural
    device: Name
    fingerprint: str
    digest: Digest
    size: Natural
    units: tuple[UnitPayload, ...]
    samples: Natural
    loss: float
    seconds: float
    bytes_down: Natural
    peak_memory: Natural
    chunk_bytes: int

    @property
    def id(self) -> UpdateId:
        """Its name within this device."""
        return UpdateId(self.run, self.round, self.digest)

    @property
    def chunk_count(self) -> int:
        """Chunks of the blob; 0 for an empty one."""
        return chunk_count(self.size, self.chunk_bytes)

    def offer(self, session: str) -> Offer:
        """The message that tells the coordinator of it."""
        return Offer(
            run=self.run,
            round=self.round,
            device=self.device,
            session=session,
            digest=self.digest,
            size=self.size,
            units=self.units,
            samples=self.samples,
            loss=self.loss,
            seconds=self.seconds,
            bytes_down=self.bytes_down,
            peak_memory=self.peak_memory,
        )


class Outbox:
    """The entries of one state directory.

    Args:
        directory: made if missing; leftovers of an earlier life that are not whole are removed.

    Raises:
        StorageError: the directory cannot be made or written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = make_directory(directory)
        self._entries: dict[UpdateId, Update] = {}
        self._open: tuple[UpdateId, memoryview] | None = None
        self._load()

    def entries(self) -> list[Update]:
        """All of them, oldest round first."""
        return sorted(self._entries.values(), key=lambda update: (update.run, update.round))

    def entry(self, update: UpdateId) -> Update:
        """One of them, by its name."""
        return self._entries[update]

    def put(self, update: Update, parts: Iterable[bytes | memoryview]) -> None:
        """Keeps an update; on return it survives a kill of the process. ``parts`` together are the blob."""
        write_atomic(self._path(update.id, "blob"), parts)
        write_atomic(self._path(update.id, "json"), [msgspec.json.encode(update)])
        self._entries[update.id] = update

    def blob(self, update: UpdateId) -> memoryview:
        """The bytes of one entry, read from disk as they are touched."""
        if self._open is None or self._open[0] != update:
            with self._path(update, "blob").open("rb") as file:
                # An empty file cannot be mapped.
                empty = self._entries[update].size == 0
                view = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._open = (update, view)
        return self._open[1]

    def forget(self, update: UpdateId) -> None:
        """Removes an entry; nothing happens if it is not there."""
        if self._open is not None and self._open[0] == update:
            self._open = None
        if self._entries.pop(update, None) is not None:
            self._path(update, "json").unlink(missing_ok=True)
            self._path(update, "blob").unlink(missing_ok=True)

    def _path(self, update: UpdateId, kind: str) -> Path:
        return self._directory / f"{update.run}.{update.round}.{update.digest[:16]}.{kind}"

    def _load(self) -> None:
        remove_partials(self._directory)
        for path in sorted(self._directory.glob("*.json")):
            update = _read(path)
            if update is None or self._path(update.id, "json") != path or not _is_whole(update, path):
                log.warning("%s is damaged and was removed; its round is trained again if it is still wanted", path)
                path.unlink()
            else:
                self._entries[update.id] = update
        known = {self._path(update, "blob") for update in self._entries}
        for path in self._directory.glob("*.blob"):
            if path not in known:
                path.unlink()


def _read(path: Path) -> Update | None:
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Update)
    return None


def _is_whole(update: Update, meta: Path) -> bool:
    try:
        with meta.with_suffix(".blob").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == update.digest
    except OSError:
        return False
