"""Decides the course of a roll-out, as a pure state machine: events and the time go in, effects come out.

The next group begins once enough devices of the open one have installed the model, and the roll-out stops for good once
too many of the devices that were tried have failed. No clock, no messages, no files: the process around it journals the
events that it is given and those that it returns, and gives them to a new machine after a restart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fedlp_edge.core.rollout.rollout_events import (
    DeviceAdded,
    DeviceSettled,
    GroupOpened,
    InstallOrdered,
    JournaledEvent,
    OrderInstall,
    Outcome,
    RolloutAborted,
    RolloutBegan,
    RolloutEffect,
    RolloutPaused,
    RolloutPhase,
    RolloutResumed,
)
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings


@dataclass
class RolloutDevice:
    """What is known of one device.

    Attributes:
        group: Number of its group, from 0.
        told: Whether it was told to install the model.
        online: Whether it is connected, as far as is known.
        heard_at: Time of its last sign since it was told, in seconds.
        outcome: How it ended; None as long as that is open.
        reason: Why it failed; empty otherwise.
    """

    group: int
    told: bool = False
    online: bool = False
    heard_at: float = 0.0
    outcome: Outcome | None = None
    reason: str = ""

    @property
    def installing(self) -> bool:
        """Whether it was told, and has not said how it ended."""
        return self.told and self.outcome is None


class RolloutMachine:
    """One roll-out.

    Args:
        settings: Choices of the roll-out.

    Attributes:
        phase: Where the roll-out stands.
        reason: Why it stopped; empty otherwise.
        devices: What is known of each device, by id.
        open_groups: Number of groups whose devices are told.
    """

    def __init__(self, settings: RolloutSettings) -> None:
        self._settings = settings
        self.phase: RolloutPhase = "running"
        self.reason = ""
        self.devices: dict[str, RolloutDevice] = {}
        self.open_groups = 0
        self._groups = 0

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The ids of the devices, by group."""
        return tuple(
            tuple(device for device, entry in self.devices.items() if entry.group == group)
            for group in range(self._groups)
        )

    @property
    def over(self) -> bool:
        """Whether nobody will be told any more."""
        return self.phase in ("stopped", "aborted", "done")

    @property
    def closed(self) -> bool:
        """Whether it is over, and no device is installing any more that anybody waits for."""
        return self.over and (self.phase == "aborted" or not any(e.installing for e in self.devices.values()))

    @property
    def tried(self) -> int:
        """Number of devices that have said how they ended, or nothing for too long."""
        return sum(entry.outcome is not None for entry in self.devices.values())

    @property
    def failed(self) -> int:
        """Number of devices that failed."""
        return sum(entry.outcome == "failed" for entry in self.devices.values())

    def next_wakeup(self) -> float:
        """When ``poll`` has something to do, unless an event comes first; infinite if only events matter."""
        heard = [entry.heard_at for entry in self.devices.values() if entry.installing]
        return min(heard, default=math.inf) + self._settings.patience_seconds

    def replay(self, events: Iterable[JournaledEvent], now: float) -> None:
        """Takes up what an earlier process has journaled; devices that were told get the whole time again."""
        for event in events:
            self._apply(event, now)
            self._decide()

    def take(self, event: JournaledEvent, now: float) -> None:
        """Takes an event, which the caller has journaled; ``poll`` says what is to be done."""
        self._apply(event, now)
        self._decide()

    def seen(self, device: str, *, online: bool) -> list[RolloutEffect]:
        """A device came or left; one that was told and is still installing is told again when it comes.

        Returns:
            What is to be done besides what ``poll`` says.
        """
        entry = self.devices.get(device)
        if entry is None:
            return []
        entry.online = online
        return [OrderInstall(device)] if online and entry.installing else []

    def heard(self, device: str, now: float) -> None:
        """A device that is installing gave a sign."""
        entry = self.devices.get(device)
        if entry is not None:
            entry.heard_at = now

    def silent(self, now: float) -> tuple[DeviceSettled, ...]:
        """Returns what is to be journaled and taken of devices from which nothing came for too long."""
        patience = self._settings.patience_seconds
        reason = f"nothing was heard of it for {patience:g} s after it was told to install the model"
        return tuple(
            DeviceSettled(device, "failed", reason)
            for device, entry in self.devices.items()
            if entry.installing and now >= entry.heard_at + patience
        )

    def poll(self) -> list[RolloutEffect]:
        """Returns what is to be done now; the caller journals each ``OrderInstall`` before it carries it out."""
        effects: list[RolloutEffect] = []
        while self.phase == "running" and self.open_groups < self._groups and self._may_open():
            effects.append(GroupOpened(self.open_groups))
            self.open_groups += 1
        if self.phase == "running":
            room = self._settings.parallel - sum(entry.installing for entry in self.devices.values())
            effects += [OrderInstall(device) for device in self._waiting()[: max(0, room)]]
            if self._finished() and not any(isinstance(effect, OrderInstall) for effect in effects):
                self.phase = "done"
        return effects

    def _apply(self, event: JournaledEvent, now: float) -> None:
        match event:
            case RolloutBegan(groups):
                self._groups = len(groups)
                self.devices = {
                    device: RolloutDevice(number) for number, group in enumerate(groups) for device in group
                }
            case DeviceAdded(device):
                self._groups = max(1, self._groups)
                self.devices.setdefault(device, RolloutDevice(self._groups - 1))
            case InstallOrdered(device):
                entry = self.devices[device]
                entry.told, entry.heard_at = True, now
                self.open_groups = max(self.open_groups, entry.group + 1)
            case DeviceSettled(device, outcome, reason):
                entry = self.devices[device]
                entry.told, entry.outcome, entry.reason = True, outcome, reason
            case RolloutPaused():
                if self.phase == "running":
                    self.phase = "paused"
            case RolloutResumed():
                if self.phase == "paused":
                    self.phase = "running"
            case RolloutAborted():
                if not self.over:
                    self.phase = "aborted"

    def _decide(self) -> None:
        """Stops the roll-out if too many have failed."""
        if self.over:
            return
        settings, tried, failed = self._settings, self.tried, self.failed
        if tried >= settings.min_tried and failed > settings.error_threshold * tried:
            self._stop(f"{failed} of {tried} devices that were tried have failed")
            return
        for group in range(min(self.open_groups, self._groups - 1)):  # the last group opens no other one
            members = [entry for entry in self.devices.values() if entry.group == group]
            failures = sum(entry.outcome == "failed" for entry in members)
            if len(members) - failures < self._needed(group):
                share = f"{settings.success_threshold:.0%}"
                self._stop(
                    f"{failures} of the {len(members)} devices of group {group + 1} have failed; {share} must not"
                )
                return

    def _stop(self, reason: str) -> None:
        self.phase, self.reason = "stopped", reason

    def _may_open(self) -> bool:
        group = self.open_groups - 1
        if group < 0:
            return True
        installed = sum(entry.outcome == "installed" for entry in self.devices.values() if entry.group == group)
        return installed >= self._needed(group)

    def _needed(self, group: int) -> int:
        size = sum(entry.group == group for entry in self.devices.values())
        return math.ceil(round(self._settings.success_threshold * size, 9))

    def _waiting(self) -> list[str]:
        return [
            device
            for device, entry in self.devices.items()
            if entry.online and not entry.told and entry.outcome is None and entry.group < self.open_groups
        ]

    def _finished(self) -> bool:
        return (
            bool(self.devices)
            and self.open_groups == self._groups
            and not any(entry.installing for entry in self.devices.values())
            and not self._waiting()
        )
