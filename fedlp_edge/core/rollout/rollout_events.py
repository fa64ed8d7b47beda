"""Defines what happens in a roll-out, and what is to be done about it.

The events with a tag are the journal of a roll-out: played again they give the same state, so a process that was killed
goes on where it was. What the others tell, such as who is online, is not kept: it is seen again.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["installed", "failed"]
"""How a device ended: the model is installed and proved itself, or the device runs what it ran before."""

RolloutPhase = Literal["running", "paused", "stopped", "aborted", "done"]
"""Where a roll-out stands; ``stopped`` by failures and ``aborted`` by the operator are final."""


class RolloutEvent(msgspec.Struct, frozen=True, tag_field="event", tag=True):
    """The base of what is journaled."""


class RolloutBegan(RolloutEvent, frozen=True):
    """The devices are divided into groups.

    Attributes:
        groups: Ids of the devices, by group.
    """

    groups: tuple[tuple[str, ...], ...]


class DeviceAdded(RolloutEvent, frozen=True):
    """A device came that is in no group; it joins the last one."""

    device: str


class InstallOrdered(RolloutEvent, frozen=True):
    """A device was told to install the model."""

    device: str


class DeviceSettled(RolloutEvent, frozen=True):
    """A device has said how it ended, or nothing for too long; a later one counts instead of an earlier one."""

    device: str
    outcome: Outcome
    reason: str = ""


class RolloutPaused(RolloutEvent, frozen=True):
    """The operator wants no further device to be told."""


class RolloutResumed(RolloutEvent, frozen=True):
    """The operator wants a paused roll-out to go on."""


class RolloutAborted(RolloutEvent, frozen=True):
    """The operator wants the roll-out to end."""


JournaledEvent = (
    RolloutBegan | DeviceAdded | InstallOrdered | DeviceSettled | RolloutPaused | RolloutResumed | RolloutAborted
)


class OrderInstall(msgspec.Struct, frozen=True):
    """Effect: tell a device to install the model; it may have been told before."""

    device: str


class GroupOpened(msgspec.Struct, frozen=True):
    """Effect: devices of this group, counted from 0, are told from now on."""

    group: int


RolloutEffect = OrderInstall | GroupOpened
