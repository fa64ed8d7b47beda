"""Directories of a service's own: made for its owner alone, checked before anything relies on them, and emptied."""

from __future__ import annotations

import os
from pathlib import Path

from fedlp_edge.errors import StorageError


def make_directory(directory: Path, option: str = "--state") -> Path:
    """Makes a directory that only its owner may read, and its parents.

    Args:
        directory: may exist already.
        option: of the command line that names another place.

    Raises:
        StorageError: it cannot be made or written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror}; choose another place with {option}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageError(f"{directory}: not writable; choose another place with {option}")
    return directory


def empty_directory(directory: Path) -> Path:
    """Makes a directory, or removes the files in it.

    The directory itself stays: to remove one, a file system may wait for its journal.

    Raises:
        StorageError: it cannot be made or written to.
        OSError: something in it cannot be removed.
    """
    for path in make_directory(directory).iterdir():
        path.unlink(missing_ok=True)
    return directory
