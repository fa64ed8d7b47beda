"""This module names the files in the directory of a run, and locks it so that only one coordinator writes there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, Self

from fedlp_edge.errors import StorageError
from fedlp_edge.system.directories import owner_hint
from fedlp_edge.system.locks import is_held, lock_file
from fedlp_edge.system.portable.file_names import name_for_file

_LOCK = "lock"


class RunDirectory:
    """The paths below a run's directory.

    The constructor touches no file; ``open`` makes the directories.

    Args:
        path: Path of the directory.

    Attributes:
        path: Path of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Makes a run's directory and its subdirectories if they are missing.

        Args:
            path: Path of the directory.

        Raises:
            StorageError: The directory cannot be made, or the path is no directory.
        """
        run = cls(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for directory in (path, run.checkpoints, run.spool, run.onnx):
                # Model and device names are private, so only the owner may read the directory.
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot use {path} as a run directory: {error.strerror}; {owner_hint(path, error)}"
                "name another one with --out"
            ) from error
        return run

    @property
    def config(self) -> Path:
        """The file with the configuration that the run was started with."""
        return self.path / "config.toml"

    @property
    def journal(self) -> Path:
        """The SQLite file of the journal."""
        return self.path / "journal.sqlite"

    @property
    def events(self) -> Path:
        """The file with one JSON line per event."""
        return self.path / "events.jsonl"

    @property
    def summary(self) -> Path:
        """The summary, whose format docs/run-directory.md describes."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """The directory with one model per round."""
        return self.path / "checkpoints"

    @property
    def start_weights(self) -> Path:
        """The file with the report on the start weights, of a run that has some."""
        return self.path / "start-weights.json"

    @property
    def onnx(self) -> Path:
        """The directory of the exported models."""
        return self.path / "onnx"

    @property
    def spool(self) -> Path:
        """The directory with the updates of the open round."""
        return self.path / "spool"

    @property
    def worker_log(self) -> Path:
        """The log file of the worker process."""
        return self.path / "worker.log"

    def update(self, round: int, device: str) -> Path:
        """Returns the path of the bytes of a device's update, which are kept until the round is committed."""
        return self.spool / f"{round:05d}-{name_for_file(device)}.update"

    def clear_spool(self) -> None:
        """Deletes the updates of a committed round."""
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(mode=0o700, exist_ok=True)

    def check_present(self) -> None:
        """Checks that nobody has removed the directory while a run was at work in it.

        Raises:
            StorageError: It was removed, or another one has taken its place.
        """
        if not (self.path / _LOCK).exists():
            raise StorageError(
                f"{self.path} was removed while the run was at work; the model is lost; the same command begins anew"
            )

    def lock(self) -> None:
        """Locks the directory against other coordinators until ``unlock`` or the end of this process.

        Raises:
            StorageError: Another coordinator uses the directory, or the lock file cannot be opened.
        """
        try:
            lock = lock_file(self.path / _LOCK)
        except OSError as error:
            hint = f"{owner_hint(self.path / _LOCK, error)}name another directory with --out"
            raise StorageError(f"cannot use {self.path / _LOCK} as a lock: {error.strerror}; {hint}") from None
        if lock is None:
            raise StorageError(f"another coordinator is at work in {self.path}; stop it, or name another directory")
        self._lock = lock

    @property
    def is_locked(self) -> bool:
        """Whether a process of this machine is at work in the directory."""
        return is_held(self.path / _LOCK)

    def unlock(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None
