"""This module caches measurements of this machine for later processes, in one file per measurement.

The files may be deleted at any time: a missing or damaged one is measured again. Processes measure one after the other,
since two measurements at once would disturb each other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from fedlp_edge.errors import StorageError
from fedlp_edge.system.directories import expand_user, home_directory, xdg_directory
from fedlp_edge.system.files import replacing
from fedlp_edge.system.locks import lock_file
from fedlp_edge.system.portable.edited_text import environment_variable

_T = TypeVar("_T", bound=msgspec.Struct)


class MachineCache(Generic[_T]):
    """A cache of values of one type.

    Args:
        directory: Directory of the files; None, or one that cannot be written, only costs further measurements.
        kind: Type of the values.
    """

    def __init__(self, directory: Path | None, kind: type[_T]) -> None:
        self._directory = directory
        self._kind = kind

    @property
    def keeps(self) -> bool:
        """Whether values are kept for later processes: the directory can be written to, or made."""
        if self._directory is None:
            return False
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
        return os.access(self._directory, os.W_OK | os.X_OK)

    def read(self, key: str) -> _T | None:
        """Returns the value of a key (a file name); None if it is missing or damaged."""
        if self._directory is None:
            return None
        try:
            return msgspec.json.decode(self._path(self._directory, key).read_bytes(), type=self._kind)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, key: str, value: _T) -> None:
        """Stores a value crash-safely; errors are ignored."""
        if self._directory is None:
            return
        path = self._path(self._directory, key)
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False, shared=True) as partial:
                partial.write_bytes(msgspec.json.encode(value))

    @contextlib.contextmanager
    def locked(self, patience_seconds: float) -> Iterator[None]:
        """Keeps other processes from measuring while the context lasts.

        Args:
            patience_seconds: Seconds to wait for another process, which is taken for stuck afterwards.
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


CACHE_DIR = "FEDLP_CACHE_DIR"
"""Environment variable with the directory of all caches."""


def cache_directory(name: str) -> Path | None:
    """Returns ``$FEDLP_CACHE_DIR/NAME``, else ``fedlp-edge/NAME`` in the user's cache; None without a home."""
    try:
        if named := environment_variable(CACHE_DIR):
            return expand_user(named) / name
        home = xdg_directory("XDG_CACHE_HOME") or home_directory(f"set {CACHE_DIR}") / ".cache"
    except StorageError:
        return None
    return home / "fedlp-edge" / name
