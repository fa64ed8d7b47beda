"""What was found out about this machine, kept for the next process that asks, in one file for each question.

The files may go at any time: what is missing or damaged is found out again. Processes that ask at the same moment
do so one after the other, since two measurements at once would disturb each other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from fedlp_edge.system.files import replacing
from fedlp_edge.system.locks import lock_file

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
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False, shared=True) as partial:
                partial.write_bytes(msgspec.json.encode(value))

    @contextlib.contextmanager
    def alone(self, patience_seconds: float) -> Iterator[None]:
        """Keeps other processes from measuring.

        Args:
            patience_seconds: one that holds the place longer than this is taken for stuck, and no longer waited for.
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                if self._directory is not None:
                    self._directory.mkdir(parents=True, exist_ok=True)
                    if (lock := lock_file(self._directory / "lock", patience_seconds)) is not None:
                        stack.enter_context(lock)
            yield

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
