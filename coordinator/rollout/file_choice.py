"""Chooses which file of a release a device gets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from coordinator.limits import LIMITS
from coordinator.rollout.release_files import ReleaseFile
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.reporting.formatting import format_bytes


class FileWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of the files, for all devices.

    Attributes:
        depth: The one depth that devices get; None for what suits each.
        precision: Precision of the files.
        early_exit: Whether devices get the file with early exits.
        measured: Whether devices get all files that may suit them, and each installs the one that it measures as best.
    """

    depth: int | None = None
    precision: str = "fp32"
    early_exit: bool = False
    measured: bool = False


def choose_file(
    files: Sequence[ReleaseFile], wishes: FileWishes, facts: DeviceFacts | None, planned: int | None
) -> ReleaseFile | None:
    """Returns the deepest file that a device may have; None if none suits it.

    A device that had a depth in the run gets that depth, or the nearest below it that there is, or else the nearest.
    A file whose answers take more memory than the device has for training is left out.

    Args:
        files: Files of the release.
        wishes: Wishes of the operator.
        facts: What the device says of itself; None if it has not.
        planned: Depth that the device had in the run; None if it had none.
    """
    memory = facts.training_memory if facts is not None else None
    fitting = [
        file for file in files if _wanted(file, wishes) and (memory is None or max(file.memory, file.size) <= memory)
    ]
    if planned is not None and wishes.depth is None and not wishes.early_exit:
        fitting.sort(key=lambda file: (file.depth > planned, abs(file.depth - planned)))
    else:
        fitting.sort(key=lambda file: -file.depth)
    return fitting[0] if fitting else None


def why_none(files: Sequence[ReleaseFile], wishes: FileWishes, facts: DeviceFacts | None) -> str:
    """Says why no file of a release suits a device."""
    least = min((max(file.memory, file.size) for file in files if _wanted(file, wishes)), default=None)
    if least is None or facts is None:
        return "no file of the release suits it"
    has = format_bytes(facts.training_memory)
    return f"answers of the smallest file that is asked for take {format_bytes(least)}, and it has {has}"


def _wanted(file: ReleaseFile, wishes: FileWishes) -> bool:
    return (
        file.precision == wishes.precision
        and file.early_exit == wishes.early_exit
        and wishes.depth in (None, file.depth)
    )


def offered_files(
    files: Sequence[ReleaseFile], wishes: FileWishes, facts: DeviceFacts | None, chosen: ReleaseFile
) -> tuple[ReleaseFile, ...]:
    """Returns the files of which a device is to choose, ``chosen`` first; none if there is nothing to choose.

    They are of any precision, with early exits or without, and no deeper than the chosen one.

    Args:
        files: Files of the release.
        wishes: Wishes of the operator.
        facts: What the device says of itself; None if it has not.
        chosen: The file that suits the device by what is known of it.
    """
    memory = facts.training_memory if facts is not None else None
    others = [
        file
        for file in files
        if file != chosen
        and file.depth <= chosen.depth
        and wishes.depth in (None, file.depth)
        and (memory is None or max(file.memory, file.size) <= memory)
    ]
    return (chosen, *others[: LIMITS.offered_models - 1]) if wishes.measured and others else ()
