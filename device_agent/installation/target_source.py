"""Where the verified files of a release come from: by digest alone, or signed where the fleet has a root of trust.

The files that a roll-out names are downloaded by their digests before a source is made. What they are worth is
for the source to say: a file that it does not vouch for is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fedlp_edge.errors import DeviceError, PeerError
from fedlp_edge.wire.messages import Install


@dataclass(frozen=True)
class ReleaseAssignment:
    """What a device is to install.

    Attributes:
        version: Name of the release.
        model: Name of the ONNX file.
        self_test: Name of the file with the self-test; empty for none.
        self_tests: Name of the self-test, or an empty text, by the name of each ONNX file that may be installed
            instead; nothing else may be run.
    """

    version: str
    model: str
    self_test: str = ""
    self_tests: Mapping[str, str] = field(default_factory=dict)


class FileWantedError(DeviceError):
    """A source needs files that were not downloaded yet; once they are, another source is made and asked.

    Attributes:
        names: Names of the files, which the roll-out names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"these files are needed: {', '.join(self.names)}")


class TargetSource(Protocol):
    """The interface of a source; both methods may take a while and are called in a thread of their own.

    A file ``X`` beside which the roll-out names ``X.graph`` is not downloaded before the source asks for it, since it
    may be assembled of its graph and of weights that are here.
    """

    def assigned(self) -> ReleaseAssignment:
        """Returns what this device is to install.

        Raises:
            PeerError: Nothing that can be trusted says so.
            FileWantedError: It needs files that were not downloaded.
        """

    def fetch(self, target: str) -> Path:
        """Returns the path of a file whose bytes are verified.

        Raises:
            PeerError: The file is missing, or cannot be trusted.
            FileWantedError: It needs files that were not downloaded.
        """


MakeTargetSource = Callable[[Install, Mapping[str, Path]], TargetSource]
"""Makes the source of one installation from its message and the downloaded files, whose digests are right, by name."""


class DigestSource:
    """A source that trusts who may speak as the fleet's coordinator: its message names the digests of all files.

    Args:
        install: Message of the roll-out.
        files: Paths of the downloaded files by name.
    """

    def __init__(self, install: Install, files: Mapping[str, Path]) -> None:
        self._install = install
        self._files = files

    def assigned(self) -> ReleaseAssignment:
        """Returns what the message says."""
        install = self._install
        offered = {offer.model: offer.self_test for offer in install.offers}
        return ReleaseAssignment(install.release, install.model, install.self_test, offered)

    def fetch(self, target: str) -> Path:
        """Returns the path of a downloaded file."""
        path = self._files.get(target)
        if path is not None:
            return path
        if any(file.name == target for file in self._install.files):
            raise FileWantedError([target])
        raise PeerError(f"the roll-out does not name the file {target}")
