"""What was found out about this machine, kept for the next process that asks, in one file for each question.

The files may go at any time: what is missing or damaged is found out again. Processes that ask at the same moment
do so one after the other, since two measurements at once would disturb each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

_POLL_SECONDS = 0.02

_T = TypeVar("_T", bound=msgspec.Struct)


class MachineCache(Generic[_T]):
    """Answers of one kind.

    Args:
        directory: where they are shared; None, or one that cannot be written, only costs a measurement more.
        kind: of what is kept.
    """

    def __init__(self, directory: Path | None, kind: type[_T]) -> None:
        self._directory = directory
        self._kind = kind

    def read(self, key: str) -> _T | None:
        """What is known under a key (a file name), or None."""
        if self._directory is None:
            return None
        try:
            return msgspec.json.decode(self._path(self._directory, key).read_bytes(), type=self._kind)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, key: str, value: _T) -> None:
        """Keeps what was found, whole or not at all."""
        if self._directory is None:
            return
        path = self._path(self._directory, key)
        partial = path.with_name(f"{key}.{os.getpid()}.part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.encode(value))
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self, patience_seconds: float) -> Iterator[None]:
        """Keeps other processes from measuring.

        Args:
            patience_seconds: one that holds the place longer than this is taken for stuck, and no longer waited for.
        """
        descriptor = None
        with contextlib.suppress(OSError):
            if self._directory is not None:
                self._directory.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o666)
                _lock(descriptor, time.monotonic() + patience_seconds)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / f"{key}.json"


def cache_directory(name: str) -> Path | None:
    """``$FEDLP_CACHE_DIR/NAME``, else ``fedlp-edge/NAME`` among the user's caches; None for a user without a home."""
    if named := os.environ.get("FEDLP_CACHE_DIR"):
        return Path(named) / name
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return home / "fedlp-edge" / name


def _lock(descriptor: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return
            time.sleep(_POLL_SECONDS)
        else:
            return
