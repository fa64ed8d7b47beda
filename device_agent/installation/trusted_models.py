"""The models that this device has verified: nothing else answers once a root of trust is configured.

Signatures expire and releases are withdrawn; what was verified when it was installed goes on answering. So it is
written down here which files those were, by their digests.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedlp_edge.errors import StorageError
from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import write_file
from fedlp_edge.wire.digests import digest_of_file

_FILE = "verified.json"
_KEPT = 64  # newest digests; more versions than these are never kept on a device


class TrustedModels:
    """The record of verified models, read and written when it is asked.

    Args:
        directory: Directory of what this device trusts; made if missing.

    Attributes:
        directory: Directory of what this device trusts.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, path: Path) -> None:
        """Records a model that was verified.

        Raises:
            StorageError: The record cannot be written.
        """
        digest = digest_of_file(path)
        known = self._read()
        if digest in known:
            return
        try:
            write_file(make_directory(self.directory) / _FILE, [msgspec.json.encode([*known, digest][-_KEPT:])])
        except OSError as error:
            raise StorageError(f"{self.directory / _FILE}: {error.strerror}") from None

    def has(self, path: Path) -> bool:
        """Whether a model is one of those; False if it cannot be read."""
        try:
            return digest_of_file(path) in self._read()
        except OSError:
            return False

    def _read(self) -> list[str]:
        try:
            return msgspec.json.decode((self.directory / _FILE).read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            return []
