"""The directory of one run: where each thing lies, and that only one coordinator writes there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from fedlp_edge.errors import StorageError
from fedlp_edge.system.locks import lock_file


class RunDirectory:
    """Paths below a run's directory.

    Args:
        path: made if missing.

    Raises:
        StorageError: it cannot be made, or is not a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for directory in (path, self.checkpoints, self.spool, self.onnx):
                # What a fleet has learned, and who took part in it, is nobody else's business.
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot use {path} as a run directory: {error.strerror}; name another one with --out"
            ) from error

    @property
    def config(self) -> Path:
        """The configuration that the run was started with."""
        return self.path / "config.toml"

    @property
    def journal(self) -> Path:
        """See ``journal``."""
        return self.path / "journal.sqlite"

    @property
    def events(self) -> Path:
        """One JSON line per event."""
        return self.path / "events.jsonl"

    @property
    def summary(self) -> Path:
        """What docs/run-directory.md describes."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """One model per round."""
        return self.path / "checkpoints"

    @property
    def onnx(self) -> Path:
        """The exported models."""
        return self.path / "onnx"

    @property
    def spool(self) -> Path:
        """Updates of the open round."""
        return self.path / "spool"

    @property
    def worker_log(self) -> Path:
        """What the worker process printed."""
        return self.path / "worker.log"

    def update(self, round: int, device: str) -> Path:
        """Where the bytes of a device's update for a round are kept until the round is committed."""
        return self.spool / f"{round:05d}-{device}.update"

    def clear_spool(self) -> None:
        """Deletes the updates of a round that is committed."""
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(mode=0o700, exist_ok=True)

    def lock(self) -> None:
        """Keeps other coordinators out until ``unlock`` or the end of this process.

        Raises:
            StorageError: another one is at work here.
        """
        try:
            lock = lock_file(self.path / "lock")
        except OSError as error:
            raise StorageError(f"cannot use {self.path / 'lock'} as a lock: {error.strerror}") from None
        if lock is None:
            raise StorageError(f"another coordinator is at work in {self.path}; stop it, or name another directory")
        self._lock = lock

    def unlock(self) -> None:
        """Lets others in again."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None
