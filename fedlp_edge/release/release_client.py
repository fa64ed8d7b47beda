"""This module verifies what a device is offered: nothing is installed that its root of trust does not vouch for.

All decisions of trust are those of python-tuf's client. The files were downloaded before, by whatever brought them;
here they are only looked up by name, so a file that did not come counts as one that the repository lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from fedlp_edge.errors import StorageError, UntrustedReleaseError
from fedlp_edge.release.signed_assignment import (
    MAX_ASSIGNMENT_BYTES,
    SignedAssignment,
    assignment_name,
    decode_assignment,
)
from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.portable.file_access import flush_to_disk

_BASE = "release:/"
_METADATA = f"{_BASE}metadata/"
_BLOCK = 1 << 16


class DownloadedFiles(FetcherInterface):
    """The files that have been downloaded, as python-tuf asks for them.

    Args:
        files: Paths of the files by name.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._files.get(url.removeprefix(_BASE))
        if path is None:
            raise DownloadHTTPError(f"{url.removeprefix(_BASE)} did not come", 404)
        return _blocks(path)


class ReleaseClient:
    """A device's view of its fleet's releases.

    Args:
        updater: Client of python-tuf, not yet refreshed.
        directory: Directory of the metadata that this device has trusted so far.
        device: Id of the device.
        files: Paths of the downloaded files by name.
    """

    def __init__(self, updater: Updater, directory: Path, device: str, files: Mapping[str, Path]) -> None:
        self._updater = updater
        self._directory = directory
        self._device = device
        self._files = files

    @classmethod
    def open(cls, root: bytes, directory: Path, device: str, files: Mapping[str, Path]) -> Self:
        """Takes up what the device has trusted so far.

        Args:
            root: Bytes of the root of trust.
            directory: Directory of the metadata that this device has trusted so far; made if missing.
            device: Id of the device.
            files: Paths of the downloaded files by name.

        Raises:
            UntrustedReleaseError: The root of trust is not signed by its own keys, or no root at all.
            StorageError: The directory cannot be made or written.
        """
        make_directory(directory)
        try:
            updater = Updater(
                str(directory),
                _METADATA,
                fetcher=DownloadedFiles(files),
                config=UpdaterConfig(prefix_targets_with_hash=False),
                bootstrap=root,
            )
        except OSError as error:
            raise StorageError(f"{directory}: {error.strerror}") from None
        except (RepositoryError, ValueError) as error:
            raise UntrustedReleaseError(f"the root of trust is not usable: {error}") from None
        return cls(updater, directory, device, files)

    def assigned(self) -> SignedAssignment:
        """Returns what this device is to install, as the newest signed metadata say.

        Raises:
            UntrustedReleaseError: The metadata are unsigned, too old, or older than what this device has seen.
            StorageError: The metadata cannot be kept.
        """
        path = self._verified(assignment_name(self._device), MAX_ASSIGNMENT_BYTES)
        _sync(self._directory)
        return decode_assignment(path.read_bytes(), self._device)

    def target(self, name: str) -> TargetFile:
        """Returns the signed length and digest of a file.

        Raises:
            UntrustedReleaseError: The file is not signed.
            StorageError: The metadata cannot be kept.
        """
        try:
            found = self._updater.get_targetinfo(name)
        except OSError as error:
            raise StorageError(f"{self._directory}: {error.strerror}") from None
        except (RepositoryError, DownloadError, ValueError) as error:
            raise UntrustedReleaseError(_words(error)) from error
        if found is None:
            raise UntrustedReleaseError(f"{name} is not signed")
        return found

    def fetch(self, name: str) -> Path:
        """Returns the path of a downloaded file whose length and digest are the signed ones.

        Raises:
            UntrustedReleaseError: The file did not come, is not signed, or is another one.
            StorageError: The metadata cannot be kept.
        """
        return self._verified(name, None)

    def _verified(self, name: str, most: int | None) -> Path:
        target = self.target(name)
        if most is not None and target.length > most:
            raise UntrustedReleaseError(f"{name} has {target.length} bytes; at most {most} are read")
        path = self._files.get(name)
        if path is None:
            raise UntrustedReleaseError(f"{name} did not come with the release")
        check_file(path, target)
        return path


def check_root(data: bytes) -> None:
    """Checks that bytes are a root of trust that is signed by as many of its own keys as it asks for.

    Raises:
        UntrustedReleaseError: They are not.
    """
    try:
        root = Metadata[Root].from_bytes(data)
        if not isinstance(root.signed, Root):
            raise UntrustedReleaseError(f"these are metadata of {root.signed.type}, and no root of trust")
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError) as error:
        raise UntrustedReleaseError(f"the root of trust is not usable: {error}") from None


def check_file(path: Path, target: TargetFile) -> None:
    """Compares a file with what is signed.

    Raises:
        UntrustedReleaseError: The file is another one.
    """
    try:
        with path.open("rb") as file:
            target.verify_length_and_hashes(file)
    except OSError as error:
        raise UntrustedReleaseError(f"{target.path} cannot be read: {error.strerror}") from None
    except LengthOrHashMismatchError as error:
        raise UntrustedReleaseError(f"{target.path} is not what was signed: {error}") from error


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (UnsignedMetadataError, "the release is not signed by enough keys of the fleet"),
    (BadVersionNumberError, "the release is older than what this device has seen, or of another time"),
    (LengthOrHashMismatchError, "a file of the release is not what was signed"),
    (DownloadHTTPError, "the release is not complete"),
    (DownloadLengthMismatchError, "the release holds a file that is too long"),
)


def _words(error: Exception) -> str:
    """Says what was wrong in words that tell what to do."""
    said = " ".join(str(error).split())
    if isinstance(error, ExpiredMetadataError):
        clock = f"this device's clock says {datetime.now(UTC):%Y-%m-%d}"
        return f"the release is too old: {said} ({clock}); if that is right, sign it anew with fedlp release refresh"
    start = next((words for kind, words in _WORDS if isinstance(error, kind)), "the release cannot be trusted")
    return f"{start}: {said}"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _sync(directory: Path) -> None:
    """Flushes the trusted metadata to the disk, since a power cut must not take back what a device has seen."""
    for path in directory.glob("*.json"):
        with path.open("r+b") as file:
            flush_to_disk(file.fileno())
