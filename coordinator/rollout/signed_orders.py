"""Signs which device gets which file of a release, and gathers what the device needs to verify it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from coordinator.rollout.ordered_files import OrderedFiles
from coordinator.rollout.release_files import SELF_TEST_SUFFIX
from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.key_files import read_private_key
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.signed_assignment import AssignedChoice, SignedAssignment
from fedlp_edge.wire.messages import MAX_FILES

PASSPHRASE = "FEDLP_KEY_PASSPHRASE"
"""Environment variable with the passphrase of the online key, if it has one."""

_FILES_OF_A_MODEL = 3  # itself, its graph file and its self-test


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
            raise ReleaseError(
                f"{path} is not signed by enough keys; fedlp release sign REPOSITORY {path.parent} signs it, and if it "
                "waits for more signatures, fedlp release cosign REPOSITORY adds them"
            )
        return name

    def __call__(self, device: str, path: Path, choices: Sequence[Path] = ()) -> OrderedFiles:
        """Signs that a device gets a file, or chooses among several.

        Args:
            device: Id of the device.
            path: Path of the ONNX file.
            choices: Paths of further files; those that are not signed are left out, and the last ones if an order
                cannot name so many files.

        Raises:
            ReleaseError: The file is not signed, or signatures have expired.
        """
        model, test = self._named(path)
        found = {path: (model, test)}
        for choice in choices:
            if self._repository.name_of(choice) is not None:
                found[choice] = self._named(choice)
        while True:
            further = list(found.values())[1:]
            self._repository.assign(
                {
                    device: SignedAssignment(
                        device=device,
                        release=model.partition("/")[0],
                        model=model,
                        self_test=test or None,
                        choices=tuple(AssignedChoice(model=name, self_test=beside or None) for name, beside in further),
                    )
                },
                self._key,
            )
            files = self._repository.files(device)
            if len(files) <= MAX_FILES or not further:
                return OrderedFiles(files, model, test, found if further else {})
            found = dict(list(found.items())[: -max(1, (len(files) - MAX_FILES) // _FILES_OF_A_MODEL)])

    def _named(self, path: Path) -> tuple[str, str]:
        """Returns the names under which a file and its self-test are signed; an empty one if there is no self-test."""
        model = self.check(path)
        release, _, short = (model.removesuffix(".onnx") + SELF_TEST_SUFFIX).partition("/")
        return model, f"{release}/{short}" if short in self._repository.releases().get(release, {}) else ""
