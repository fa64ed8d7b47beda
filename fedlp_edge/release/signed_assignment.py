"""This module defines the signed file that says what one device is to install."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fedlp_edge.errors import UntrustedReleaseError
from fedlp_edge.wire.messages import Name

GRAPH_SUFFIX = ".graph"
"""Suffix of a graph file, behind the name of the ONNX file that it stands for."""

MAX_ASSIGNMENT_BYTES = 16 << 10

MAX_CHOICES = 29
"""Most further files that a device may choose among; their names fit into an assignment, and into an order."""

TargetName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
]


class AssignedChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A further file that a device may install instead, if it suits the device better by measurement.

    Attributes:
        model: Name of the ONNX file among the signed files, ``RELEASE/FILE``.
        self_test: Name of the file with the answers that the model must give; None for none.
    """

    model: TargetName
    self_test: TargetName | None = None


class SignedAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one device is to install, as ``assignments/DEVICE.json`` says.

    Attributes:
        device: Id of the device.
        release: Name of the release.
        model: Name of the ONNX file among the signed files, ``RELEASE/FILE``.
        self_test: Name of the file with the answers that the model must give; None for none.
        choices: Further files, any of which the device may install instead of ``model``; it installs no other.
    """

    device: Name
    release: Name
    model: TargetName
    self_test: TargetName | None = None
    choices: Annotated[tuple[AssignedChoice, ...], msgspec.Meta(max_length=MAX_CHOICES)] = ()

    @property
    def self_tests(self) -> dict[str, str]:
        """Name of the self-test, or an empty text, by the name of each model that the device may install."""
        permitted = (AssignedChoice(model=self.model, self_test=self.self_test), *self.choices)
        return {entry.model: entry.self_test or "" for entry in permitted}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models and self-tests."""
        return tuple(name for pair in self.self_tests.items() for name in pair if name)


def assignment_name(device: str) -> str:
    """Returns the name of a device's assignment among the signed files."""
    return f"assignments/{device}.json"


def decode_assignment(data: bytes, device: str) -> SignedAssignment:
    """Decodes a verified assignment.

    Raises:
        UntrustedReleaseError: It is malformed or speaks of another device.
    """
    try:
        found = msgspec.json.decode(data, type=SignedAssignment)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UntrustedReleaseError(f"the assignment of {device} is malformed: {error}") from None
    if found.device != device:
        raise UntrustedReleaseError(f"the assignment of {device} speaks of {found.device}")
    return found
