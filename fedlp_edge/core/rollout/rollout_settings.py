"""Defines the choices of a roll-out, and how the devices of a fleet are divided into its groups."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Sequence
from typing import Annotated

import msgspec

_SIZE = re.compile(r"([0-9]{1,7}|[0-9]{1,3}(\.[0-9]{1,3})?%)\Z")

Portion = Annotated[float, msgspec.Meta(ge=0, le=1)]


class RolloutSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of one roll-out.

    Attributes:
        canary: Size of the first group: a number of devices, or a share of them such as ``5%``; empty for none.
        groups: Sizes of the groups after it, each like ``canary``; all other devices are the last group.
        success_threshold: Share of a group that must have installed the model before the next group begins, 0 to 1.
        error_threshold: Share of failures among the devices that were tried; above it the roll-out stops, 0 to 1.
        min_tried: Number of devices that must have been tried before the error threshold counts.
        parallel: Number of devices that may be installing at one time.
        patience_seconds: Seconds without a sign of a device that was told to install, after which it has failed.
    """

    canary: str = "1"
    groups: tuple[str, ...] = ()
    success_threshold: Portion = 1.0
    error_threshold: Portion = 0.1
    min_tried: Annotated[int, msgspec.Meta(ge=1)] = 1
    parallel: Annotated[int, msgspec.Meta(ge=1)] = 32
    patience_seconds: Annotated[float, msgspec.Meta(gt=0)] = 600.0

    def __post_init__(self) -> None:
        for size in (self.canary, *self.groups):
            if size and not _SIZE.match(size):
                raise ValueError(f'{size!r} is no size of a group: give a number of devices, or a share such as "5%"')


def group_size(size: str, devices: int) -> int:
    """Returns the number of devices that a size stands for: a share is rounded up, so that it is never nobody."""
    if size.endswith("%"):
        return min(devices, math.ceil(round(float(size[:-1]) * devices / 100, 9)))
    return min(devices, int(size))


def rollout_groups(
    settings: RolloutSettings, devices: Collection[str], release: str, canaries: Sequence[str] = ()
) -> tuple[tuple[str, ...], ...]:
    """Divides devices into groups; the same devices and release always give the same groups.

    Args:
        settings: Sizes of the groups.
        devices: Ids of the devices.
        release: Name of the release, by which the order of the devices is drawn: the canary is not always the same one.
        canaries: Devices that the first group is made of, instead of ``settings.canary``.

    Returns:
        The ids by group, without empty groups; the last group has all that the sizes leave over.
    """
    left = sorted(set(devices) - set(canaries), key=lambda device: _order(release, device))
    groups = [tuple(device for device in canaries if device in devices)]
    sizes = [size for size in (settings.canary if not canaries else "", *settings.groups) if size]
    for size in sizes:
        number = group_size(size, len(devices))
        groups.append(tuple(left[:number]))
        left = left[number:]
    groups.append(tuple(left))
    return tuple(group for group in groups if group)


def _order(release: str, device: str) -> bytes:
    return hashlib.sha256(f"{release}\0{device}".encode()).digest()
