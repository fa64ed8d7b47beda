"""This module keeps the files of a release repository: metadata of every version, what waits for signatures, targets.

::

    REPOSITORY/root.json                   newest root of trust, to be copied to devices
    REPOSITORY/metadata/N.root.json        every root, each signed by the keys of the one before
    REPOSITORY/metadata/N.ROLE.json        every version of targets, snapshot and assignments
    REPOSITORY/metadata/timestamp.json     newest timestamp
    REPOSITORY/pending/ROLE.json           metadata that lack signatures
    REPOSITORY/targets/RELEASE/FILE        files of the releases
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from fedlp_edge.errors import ReleaseError
from fedlp_edge.system.files import replacing, write_file

ROOT = "root"
TARGETS = "targets"
SNAPSHOT = "snapshot"
TIMESTAMP = "timestamp"
ASSIGNMENTS = "assignments"

_VERSION = re.compile(r"^([1-9][0-9]{0,8})\.([a-z]+)\.json$")


class RepositoryFiles:
    """The directory of one fleet's repository.

    Args:
        directory: Path of the directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._metadata = directory / "metadata"
        self._pending = directory / "pending"
        self._targets = directory / "targets"

    @property
    def exists(self) -> bool:
        """Whether a root stands here, signed or waiting for signatures."""
        return self.version(ROOT) > 0 or self.pending_path(ROOT).is_file()

    def version(self, role: str) -> int:
        """Returns the newest version of a role; 0 if there is none."""
        if role == TIMESTAMP:
            stamp = self.read(TIMESTAMP)
            return 0 if stamp is None else stamp.signed.version
        return max(self.versions(role), default=0)

    def versions(self, role: str) -> list[int]:
        """Returns the versions of a role, oldest first."""
        if not self._metadata.is_dir():
            return []
        found = (_VERSION.match(path.name) for path in self._metadata.iterdir())
        return sorted(int(match[1]) for match in found if match and match[2] == role)

    def path(self, role: str, version: int) -> Path:
        """Returns where a version of a role stands."""
        return self._metadata / (f"{TIMESTAMP}.json" if role == TIMESTAMP else f"{version}.{role}.json")

    def pending_path(self, role: str) -> Path:
        """Returns where metadata wait for signatures."""
        return self._pending / f"{role}.json"

    def target_path(self, name: str) -> Path:
        """Returns where a signed file stands."""
        return self._targets / name

    def read(self, role: str, version: int = 0) -> Metadata[Any] | None:
        """Reads a version of a role, the newest by default; None if there is none.

        Raises:
            ReleaseError: The file is damaged.
        """
        number = version or (1 if role == TIMESTAMP else self.version(role))
        return _read(self.path(role, number)) if number else None

    def read_pending(self, role: str) -> Metadata[Any] | None:
        """Reads what waits for signatures; None if nothing does.

        Raises:
            ReleaseError: The file is damaged.
        """
        return _read(self.pending_path(role))

    def write(self, role: str, metadata: Metadata[Any]) -> None:
        """Writes metadata that have all their signatures, and forgets what waited for them.

        Raises:
            ReleaseError: The file cannot be written.
        """
        data = metadata.to_bytes(JSONSerializer())
        self._write(self.path(role, metadata.signed.version), data)
        if role == ROOT:
            self._write(self.directory / "root.json", data)
        self.pending_path(role).unlink(missing_ok=True)

    def write_pending(self, role: str, metadata: Metadata[Any]) -> None:
        """Writes metadata that lack signatures.

        Raises:
            ReleaseError: The file cannot be written.
        """
        self._write(self.pending_path(role), metadata.to_bytes(JSONSerializer()))

    def write_target(self, name: str, data: bytes) -> None:
        """Writes a small file among the targets.

        Raises:
            ReleaseError: The file cannot be written.
        """
        self._write(self.target_path(name), data)

    def copy_target(self, name: str, source: Path) -> None:
        """Copies a file of a release among the targets.

        Raises:
            ReleaseError: The file cannot be read or written.
        """
        path = self.target_path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise ReleaseError(f"{error.filename or path}: {error.strerror}") from None

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, [data])
        except OSError as error:
            raise ReleaseError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> Metadata[Any] | None:
    try:
        return Metadata.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}") from None
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise ReleaseError(f"{path} is damaged: {error}; restore it from a copy of the repository") from None
