"""Signs which device gets which file of a release, and gathers what the device needs to verify it."""

from __future__ import annotations

import os
from pathlib import Path

from coordinator.rollout.ordered_files import OrderedFiles
from coordinator.rollout.release_files import SELF_TEST_SUFFIX
from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.key_files import read_private_key
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.signed_assignment import SignedAssignment

PASSPHRASE = "FEDLP_KEY_PASSPHRASE"
"""Environment variable with the passphrase of the online key, if it has one."""


class SignedOrders:
    """Orders of one roll-out, signed by the online key.

    Args:
        repository: Signed releases of the fleet.
        online_key: File of the online key.

    Raises:
        ReleaseError: The key is missing or cannot be used.
    """

    def __init__(self, repository: ReleaseRepository, online_key: Path) -> None:
        self._repository = repository
        self._key = read_private_key(online_key, lambda _path: os.environ.get(PASSPHRASE, ""))

    def check(self, path: Path) -> str:
        """Returns the name under which a file is signed.

        Raises:
            ReleaseError: It is not signed.
        """
        name = self._repository.name_of(path)
        if name is None:
            raise ReleaseError(f"{path} is not signed; sign it first: fedlp release sign REPOSITORY {path.parent}")
        return name

    def __call__(self, device: str, path: Path) -> OrderedFiles:
        """Signs that a device gets a file.

        Args:
            device: Id of the device.
            path: Path of the ONNX file.

        Raises:
            ReleaseError: The file is not signed, or signatures have expired.
        """
        model = self.check(path)
        release = model.partition("/")[0]
        test = model.removesuffix(".onnx") + SELF_TEST_SUFFIX
        short = test.partition("/")[2]
        self_test = test if short in self._repository.releases().get(release, {}) else None
        assignment = SignedAssignment(device=device, release=release, model=model, self_test=self_test)
        self._repository.assign({device: assignment}, self._key)
        return OrderedFiles(self._repository.files(device), model, self_test or "")
