"""Files of a release that the fleet's keys have signed: the source of a device that has a root of trust.

A model need not come whole. Where its graph file is signed as well, it is assembled of that and of weights that are
here: units of the last run, or models that are installed. It has to be the signed file to the last bit; otherwise the
whole file is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from device_agent.installation.target_source import FileWantedError, ReleaseAssignment
from device_agent.installation.trusted_models import TrustedModels
from fedlp_edge.errors import ConfigError, UntrustedReleaseError
from fedlp_edge.release.graph_file import assemble, decode_graph, missing_tensors
from fedlp_edge.release.release_client import ReleaseClient, check_file, check_root
from fedlp_edge.release.signed_assignment import GRAPH_SUFFIX
from fedlp_edge.release.tensor_index import TensorIndex
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.system.directories import make_directory
from fedlp_edge.wire.messages import Install

log = logging.getLogger(__name__)

_ASSEMBLED = "assembled.onnx"


class KeptFiles(Protocol):
    """The interface to the files of this device that may hold weights of a release."""

    def __call__(self) -> Iterable[Path]:
        """Returns their paths."""


class SignedSource:
    """A source that trusts what the keys of its root of trust have signed.

    Args:
        install: Message of the roll-out.
        files: Paths of the downloaded files by name.
        client: Verifies the files.
        trusted: Record of the models that were verified.
        kept: Files that may hold weights.
    """

    def __init__(
        self,
        install: Install,
        files: Mapping[str, Path],
        client: ReleaseClient,
        trusted: TrustedModels,
        kept: KeptFiles,
    ) -> None:
        self._install = install
        self._files = files
        self._client = client
        self._trusted = trusted
        self._kept = kept
        self._models: Mapping[str, str] | None = None

    def assigned(self) -> ReleaseAssignment:
        """Returns what the signed assignment of this device says.

        Raises:
            PeerError: It is not signed, or names another model than the roll-out.
        """
        found = self._client.assigned()
        if found.model != self._install.model:
            raise UntrustedReleaseError(
                f"the roll-out asks for {self._install.model}, and what is signed for this device is {found.model}"
            )
        self._models = found.self_tests
        return ReleaseAssignment(found.release, found.model, found.self_test or "", found.self_tests)

    def fetch(self, target: str) -> Path:
        """Returns the path of a file that is the signed one, which may have been assembled here.

        Raises:
            PeerError: The file is not signed, or another one.
            FileWantedError: The whole file is needed.
        """
        models = self._models
        if models is not None and target not in models and target not in models.values():
            raise UntrustedReleaseError(f"{target} is not assigned to this device")
        path = self._files.get(target)
        if path is None:
            path = self._assembled(target)
        if path is None:
            if any(file.name == target for file in self._install.files):
                raise FileWantedError([target])
            raise UntrustedReleaseError(f"the roll-out does not name the file {target}")
        if path == self._files.get(target):
            self._client.fetch(target)
        if target in ((self._install.model,) if self._models is None else self._models):
            self._trusted.add(path)
        return path

    def _assembled(self, target: str) -> Path | None:
        """Assembles a file; None if it cannot be, for whatever reason."""
        signed = self._client.target(target)
        if target + GRAPH_SUFFIX not in self._files:
            return None
        graph_path = self._client.fetch(target + GRAPH_SUFFIX)
        path = make_directory(self._trusted.directory) / _ASSEMBLED
        try:
            data = graph_path.read_bytes()
            graph = decode_graph(data)
            index = TensorIndex.of(self._kept())
            if missing := missing_tensors(graph, index):
                log.info("%s is downloaded whole: %d of %d tensors are not here", target, missing, len(graph.tensors))
                return None
            assemble(graph, index, path)
            check_file(path, signed)
        except UntrustedReleaseError as error:
            path.unlink(missing_ok=True)
            log.warning("%s is downloaded whole: %s", target, error)
            return None
        log.info("%s is assembled of %s and of weights that are here", target, format_bytes(len(data)))
        return path


class SignedSources:
    """Makes the sources of a device that has a root of trust.

    Args:
        root: Bytes of the root of trust.
        device: Id of the device.
        trusted: Record of the models that were verified, in whose directory the trusted metadata stand.
        kept: Files that may hold weights.
    """

    def __init__(self, root: bytes, device: str, trusted: TrustedModels, kept: KeptFiles) -> None:
        self._root = root
        self._device = device
        self._trusted = trusted
        self._kept = kept

    def __call__(self, install: Install, files: Mapping[str, Path]) -> SignedSource:
        """Makes the source of one installation.

        Raises:
            PeerError: The root of trust cannot be used.
            StorageError: The metadata cannot be kept.
        """
        client = ReleaseClient.open(self._root, self._trusted.directory / "metadata", self._device, files)
        return SignedSource(install, files, client, self._trusted, self._kept)


def read_root(path: Path) -> bytes:
    """Reads the root of trust that the configuration names.

    Args:
        path: Path of the file.

    Raises:
        ConfigError: The file is missing, or no root of trust.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; root names the root.json that fedlp keys init writes") from None
    try:
        check_root(data)
    except UntrustedReleaseError as error:
        raise ConfigError(f"{path}: {error}; it is the root.json that fedlp keys init writes") from None
    return data
