"""Files that survive: written beside their place, then moved there.

A process may be killed at any line: what has its final name is complete; what has not is rubbish that the next start
removes. A small board also loses power without a goodbye. What must survive that is flushed to the disk before it is
moved; what carries its digest in its name need not be, since the next start verifies it and can get it again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from fedlp_edge.errors import StorageError

PARTIAL = ".part"
"""Suffix of files that are still being written."""


def write_atomic(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes a file that is either complete under its name or not there at all, whenever the process is killed."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        for part in parts:
            file.write(part)
    os.replace(partial, path)


def move_into_place(source: Path, path: Path) -> None:
    """Renames a file that is already flushed, and makes the renaming itself durable."""
    os.replace(source, path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Flushes a directory's entries."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(directory: Path) -> None:
    """Removes what an earlier life did not finish writing."""
    for path in directory.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def make_directory(directory: Path) -> Path:
    """Makes a directory and its parents.

    Raises:
        StorageError: it cannot be made or written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror}; choose another place with --state") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageError(f"{directory}: not writable; choose another place with --state")
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


def lock_directory(directory: Path) -> BinaryIO:
    """Takes a directory for this process; the kernel gives it back when the process ends, however it ends.

    Raises:
        StorageError: another agent has it.
    """
    path = directory / "lock"
    try:
        # A link would name somebody else's file.
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; choose another place with --state") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StorageError(
            f"{directory}: another agent is running there; give each agent an --id (and --state) of its own, or stop "
            "the other one"
        ) from None
    return file
