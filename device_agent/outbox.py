"""Keeps finished updates on the disk until the coordinator has sent a receipt for each.

Training is what a round costs; a lost broker or a restart of either side must not cost it twice. An entry is the
files of its units as training left them, moved here, and a small JSON file that names them. The JSON file is written
last and removed first, so an entry is either whole or not there. Nothing waits for the disk: a power cut within the
seconds until the kernel has written may cost an entry, which the digest tells at the next start; the same task then
gives the same update again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import move_into_place, remove_partials, write_file
from fedlp_edge.wire.concat_buffer import ConcatBuffer, mapped

log = logging.getLogger(__name__)

_PART = ".delta"


class Outbox:
    """The finished updates in one directory.

    Args:
        directory: Directory of the files; ``open`` finds the updates that it has already.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[UpdateId, Update] = {}
        self._open: tuple[UpdateId, ConcatBuffer] | None = None

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens an outbox, made if it is missing; what is not whole of an earlier life is removed.

        Raises:
            StorageError: The directory cannot be made or written to.
        """
        outbox = cls(make_directory(directory))
        outbox._load()
        return outbox

    def entries(self) -> list[Update]:
        """Returns all updates, the oldest round first."""
        return sorted(self._entries.values(), key=lambda update: (update.run, update.round))

    def entry(self, update: UpdateId) -> Update:
        """Returns an update by its id."""
        return self._entries[update]

    def put(self, update: Update, parts: Mapping[str, Path], blob: ConcatBuffer | None = None) -> None:
        """Keeps an update; on return it survives a kill of the process.

        Args:
            update: Finished update.
            parts: The file of each of its units, on this file system; taken away from where they are.
            blob: The bytes of these files, if they are mapped already; otherwise they are when they are sent.
        """
        for part in update.units:
            move_into_place(parts[part.unit], self._part(update.id, part.unit), durable=False)
        write_file(self._path(update.id, "json"), [msgspec.json.encode(update)], durable=False)
        self._entries[update.id] = update
        if blob is not None:
            self._open = (update.id, blob)

    def blob(self, update: UpdateId) -> ConcatBuffer:
        """Returns the bytes of an update, which are read from the disk as they are used."""
        if self._open is None or self._open[0] != update:
            self._open = (update, self._read(self._entries[update]))
        return self._open[1]

    def forget(self, update: UpdateId) -> None:
        """Removes an update; nothing happens if it is not there."""
        if self._open is not None and self._open[0] == update:
            self._open = None
        entry = self._entries.pop(update, None)
        if entry is not None:
            self._path(update, "json").unlink(missing_ok=True)
            for part in entry.units:
                self._part(update, part.unit).unlink(missing_ok=True)

    def drop_others(self, device: str) -> None:
        """Removes updates of a device of another name, which no coordinator takes from this one.

        They are there after the id of an agent was changed, or its state was copied to another machine.
        """
        for update in [update for update in self._entries.values() if update.device != device]:
            text = "round %d of run %s: the update is dropped, as it is of the device %s and this one is called %s"
            log.warning(text, update.round, update.run, update.device, device)
            self.forget(update.id)

    def _path(self, update: UpdateId, kind: str) -> Path:
        return self._directory / f"{update.run}.{update.round}.{update.digest[:16]}.{kind}"

    def _part(self, update: UpdateId, unit: str) -> Path:
        return self._path(update, f"{unit}{_PART}")

    def _read(self, update: Update) -> ConcatBuffer:
        return ConcatBuffer(mapped(self._part(update.id, part.unit)) for part in update.units)

    def _load(self) -> None:
        remove_partials(self._directory)
        for path in sorted(self._directory.glob("*.json")):
            update = _described(path)
            if update is None or self._path(update.id, "json") != path or not self._is_whole(update):
                log.warning("%s is damaged and was removed; its round is trained again if it is still wanted", path)
                path.unlink()
            else:
                self._entries[update.id] = update
        known = {self._part(entry.id, part.unit) for entry in self._entries.values() for part in entry.units}
        for path in self._directory.glob(f"*{_PART}"):
            if path not in known:
                path.unlink()

    def _is_whole(self, update: Update) -> bool:
        try:
            return self._read(update).digest() == update.digest
        except OSError:
            return False


def _described(path: Path) -> Update | None:
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Update)
    return None
