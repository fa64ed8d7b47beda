"""What an agent remembers of installations: its versions, which one is being tried, and how the last ended."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import write_file
from fedlp_edge.wire.messages import Install, InstallReport

FILE = "installation.json"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is being tried.

    Attributes:
        install: Message that ordered it.
        target: Target of the version in the store.
        self_test: Name of the file with the self-test, beside the model; empty for none.
        phase: ``testing`` as long as the old model answers, ``probation`` from the moment before the switch.
        attempts: Number of times that the agent ended while this version was tried.
    """

    install: Install
    target: str
    self_test: str = ""
    phase: Literal["testing", "probation"] = "testing"
    attempts: int = 0


class InstallationState(msgspec.Struct, frozen=True, kw_only=True):
    """What survives a restart of the agent.

    Attributes:
        current: Target of the version that has proved itself; empty if there is none.
        previous: Targets of the earlier versions that are kept, newest first.
        candidate: Version that is being tried; None if there is none.
        last: Last word about an installation that has ended.
    """

    current: str = ""
    previous: tuple[str, ...] = ()
    candidate: Candidate | None = None
    last: InstallReport | None = None


def load_state(directory: Path) -> InstallationState:
    """Reads the state below a directory of models; an empty one if there is none that can be read."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=InstallationState)
    except (OSError, msgspec.DecodeError):
        return InstallationState()


def save_state(state: InstallationState, directory: Path) -> None:
    """Writes the state, which survives a power cut once this returns.

    Raises:
        OSError: The disk is full or failed.
        StorageError: The directory is missing and cannot be made.
    """
    if not directory.is_dir():
        make_directory(directory)
    write_file(directory / FILE, [msgspec.json.encode(state)])
