"""This module defines the signed file that says what one device is to install."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fedlp_edge.errors import UntrustedReleaseError
from fedlp_edge.wire.messages import Name

GRAPH_SUFFIX = ".graph"
"""Suffix of a graph file, behind the name of the ONNX file that it stands for."""

MAX_ASSIGNMENT_BYTES = 16 << 10

TargetName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
]


class SignedAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one device is to install, as ``assignments/DEVICE.json`` says.

    Attributes:
        device: Id of the device.
        release: Name of the release.
        model: Name of the ONNX file among the signed files, ``RELEASE/FILE``.
        self_test: Name of the file with the answers that the model must give; None for none.
    """

    device: Name
    release: Name
    model: TargetName
    self_test: TargetName | None = None


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
