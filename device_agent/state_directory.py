"""Guards the directory of one agent's state: one process uses it at a time, and only in a format that it can read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from device_agent.blob_cache import BlobCache
from device_agent.installation.version_store import VersionStore
from device_agent.outbox import Outbox
from fedlp_edge.errors import StorageError
from fedlp_edge.system.directories import make_directory, owner_hint
from fedlp_edge.system.files import bears_links, write_file
from fedlp_edge.system.locks import lock_file

STATE_FORMAT = 2
"""Number of the format of everything in a state directory; a new one for every change that an older agent, or a newer
one, would misread."""

_FORMAT_FILE = "format"
_ENTRIES = ("outbox", "cache", "downloads", "work", "personal", "device_values", "models", "releases")
"""What an agent of any version makes in its state directory. Other files may be there: a mount point has some."""


@dataclass(frozen=True)
class StateDirectory:
    """The state that an agent keeps on its disk, while it holds the lock on its directory.

    Attributes:
        path: Path of the directory.
        lock: Open lock file; closing it frees the directory for another agent.
        outbox: Finished updates that wait for their receipts.
        units: Units of the global model that were downloaded.
        models: ONNX files that were downloaded.
        releases: Files of releases that were downloaded.
    """

    path: Path
    lock: BinaryIO
    outbox: Outbox
    units: BlobCache
    models: BlobCache
    releases: BlobCache

    @classmethod
    def open(cls, path: Path) -> Self:
        """Makes the directory if it is missing, locks it and reads what it holds.

        Args:
            path: Path of the directory.

        Raises:
            StorageError: The directory cannot be used, another agent has it, or it holds another format.
        """
        lock = claim_state_directory(path)
        units, models = BlobCache(path / "cache"), BlobCache(path / "downloads")
        versions = VersionStore(path / "models")
        releases = BlobCache(path / "releases", resume=True, others=versions.files)
        return cls(path, lock, Outbox.open(path / "outbox"), units, models, releases)


def claim_state_directory(directory: Path) -> BinaryIO:
    """Makes the directory of the state if it is missing, and locks it for this process.

    Returns:
        The lock: closing it, or the end of this process, frees the directory for another agent.

    Raises:
        StorageError: The directory cannot be made or written to, another agent has it, it holds another format, or its
            file system has no links.
    """
    lock = _locked(make_directory(directory))
    try:
        if not bears_links(directory):
            raise StorageError(
                f"{directory}: this file system has no links (FAT, a network share), and one tells what "
                "model is installed; choose a place on another one with --state"
            )
        _check_format(directory)
    except BaseException:
        lock.close()
        raise
    return lock


def _locked(directory: Path) -> BinaryIO:
    path = directory / "lock"
    try:
        lock = lock_file(path)
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror}; {owner_hint(path, error)}choose another place with --state"
        ) from None
    if lock is None:
        raise StorageError(
            f"{directory}: another agent is running there; give each agent an --id (and --state) of its own, or stop "
            "the other one"
        )
    return lock


def _check_format(directory: Path) -> None:
    path = directory / _FORMAT_FILE
    wanted = str(STATE_FORMAT)
    try:
        if path.exists():
            found = path.read_bytes()[:32].decode("ascii", "replace").strip()
        elif any((directory / entry).exists() for entry in _ENTRIES):
            found = "none"
        else:
            write_file(path, [f"{wanted}\n".encode()])
            found = wanted
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror}; {owner_hint(path, error)}choose another place with --state"
        ) from None
    if found != wanted:
        later = found.isdecimal() and int(found) > STATE_FORMAT
        raise StorageError(
            f"{directory}: holds the state of {'a later' if later else 'another'} version of the agent (format "
            f"{found}; this one has format {wanted}); "
            + (
                "update this agent, or name another --state"
                if later
                else "name another --state, or remove the directory"
            )
        )
