"""Keeps ``status.json`` of a roll-out up to date: where each device stands, for people."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.rollout.rollout_directory import DeviceStanding, RolloutDirectory, RolloutStatus
from fedlp_edge.core.rollout.rollout_machine import RolloutDevice, RolloutMachine
from fedlp_edge.wire.messages import InstallReport, InstallState, ShadowFigures

_SECONDS = 1.0
"""Seconds between two writes, since nobody looks more often."""


class RolloutStatusFile:
    """Where a roll-out stands, and the file that says so.

    Args:
        directory: Directory of the roll-out.
        machine: State machine of the roll-out.
        clock: Monotonic seconds.
    """

    def __init__(self, directory: RolloutDirectory, machine: RolloutMachine, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._machine = machine
        self._clock = clock
        self._files: dict[str, str] = {}
        self._states: dict[str, InstallState] = {}
        self._shadows: dict[str, ShadowFigures] = {}
        self._left_out: dict[str, str] = {}
        self._written_at = 0.0
        self._changed = True

    def take_up(self) -> None:
        """Takes up what an earlier process found out of devices that may never say it again."""
        if self._directory.has_status:
            earlier = self._directory.status()
            self._left_out = dict(earlier.left_out)
            for device, standing in earlier.devices.items():
                self._files[device] = standing.file
                if standing.shadow is not None:
                    self._shadows[device] = standing.shadow

    def changed(self) -> None:
        """Notes that the state machine has changed."""
        self._changed = True

    def give(self, device: str, file: str) -> None:
        """Notes the name of the file that was chosen for a device, which is left out no more."""
        self._files[device] = file
        self._changed |= self._left_out.pop(device, None) is not None

    def leave_out(self, device: str, why: str) -> None:
        """Notes why a device is in no group."""
        self._changed |= self._left_out.get(device) != why
        self._left_out[device] = why

    def reported(self, report: InstallReport) -> None:
        """Takes the latest report of a device."""
        self._states[report.device] = report.state
        if report.shadow is not None:
            self._shadows[report.device] = report.shadow
        self._changed = True

    def gone(self, device: str) -> None:
        """Forgets what a device was doing that is not online any more."""
        self._states.pop(device, None)
        self._changed = True

    def tick(self) -> None:
        """Writes the file if it is time and anything has changed."""
        if self._changed and self._clock() >= self._written_at + _SECONDS:
            self.write()

    def write(self) -> None:
        """Writes the file, once there is a device to tell of."""
        if self._machine.devices:
            self._written_at, self._changed = self._clock(), False
            self._directory.put_status(self._status())

    def _status(self) -> RolloutStatus:
        machine = self._machine
        return RolloutStatus(
            phase=machine.phase,
            reason=machine.reason,
            open_groups=machine.open_groups,
            groups=len(machine.groups),
            devices={device: self._standing(device, entry) for device, entry in machine.devices.items()},
            left_out={device: why for device, why in self._left_out.items() if device not in machine.devices},
        )

    def _standing(self, device: str, entry: RolloutDevice) -> DeviceStanding:
        idle: str = "told" if entry.told else "waiting" if entry.online else "away"
        return DeviceStanding(
            group=entry.group + 1,
            file=self._files.get(device, ""),
            state=entry.outcome or self._states.get(device) or idle,
            reason=entry.reason,
            shadow=self._shadows.get(device),
        )
