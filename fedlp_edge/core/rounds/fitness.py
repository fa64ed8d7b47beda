"""Derives from the failures of a device whether it may get another task, without I/O.

After a *lasting* fault (the data do not fit the model) every further attempt would fail: the device is unfit until it
changes. A *passing* fault (a worker that died) may be over: the device pauses for more rounds after each failure, and
after several failures in a row it is set aside. Devices that are unfit or set aside do not count for a quorum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Literal

import msgspec

REFUSALS = 3
"""Updates in a row with refused values after which a device is unfit."""

ASIDE_AFTER = 4
"""Failures in a row after which a device is set aside."""

LONGEST_REST = 64
"""Longest pause in rounds, so that a device that is set aside is tried again from time to time."""

SILENT = "nothing by the deadline"
"""Reason, for people, of a device that is ready and did not deliver."""

FIRST_SECONDS = 2.0
"""Seconds between a first failure and another attempt in a round in which no other device can take the place."""

LONGEST_SECONDS = 60.0
"""Longest pause in seconds between two attempts in one round."""


class DeviceFault(Enum):
    """The kinds of reasons why a device did not do its task."""

    DATA = "data"
    MODEL = "model"
    CAPACITY = "capacity"
    VALUES = "values"
    MEMORY = "memory"
    WORKER = "worker"
    REFUSED = "refused"
    LOST = "lost"


_LASTING = frozenset({DeviceFault.DATA, DeviceFault.MODEL, DeviceFault.CAPACITY})

State = Literal["fit", "resting", "set aside", "unfit"]


class Fitness(msgspec.Struct, frozen=True):
    """The latest failures of one device.

    Attributes:
        failures: Number of failures in a row.
        refusals: Number of updates in a row whose values were refused.
        lasting: Whether every further attempt would fail, too.
        round: First round in which the device may get a task again.
        reason: Cause of the latest failure, for people.
    """

    failures: int = 0
    refusals: int = 0
    lasting: bool = False
    round: int = 0
    reason: str = ""

    def after(self, fault: DeviceFault, reason: str, round: int) -> Fitness:
        """Returns the fitness after one more failure.

        Args:
            fault: Kind of the failure.
            reason: Cause, for people.
            round: Round of the failure, or the next one if none is open.
        """
        failures = self.failures + 1
        refusals = self.refusals + 1 if fault is DeviceFault.VALUES else 0
        lasting = self.lasting or fault in _LASTING or refusals >= REFUSALS
        return Fitness(failures, refusals, lasting, round + min(2 ** (failures - 1), LONGEST_REST), reason)

    @property
    def state(self) -> State:
        """State of the device, as status messages name it."""
        if self.lasting:
            return "unfit"
        return "set aside" if self.failures >= ASIDE_AFTER else "resting" if self.failures else "fit"

    @property
    def out(self) -> bool:
        """Whether rounds do not wait for this device: it is unfit or set aside."""
        return self.lasting or self.failures >= ASIDE_AFTER

    def is_passed_over(self, round: int) -> bool:
        """Returns whether the device gets no task of a round that opens now."""
        return self.lasting or round < self.round

    @property
    def pause_seconds(self) -> float:
        """Seconds before the device may try again in a round in which no other device can take its place."""
        return min(FIRST_SECONDS * 2.0 ** max(0, self.failures - 1), LONGEST_SECONDS)


def with_another_attempt(known: Mapping[str, Fitness], devices: Collection[str]) -> dict[str, Fitness]:
    """Returns the fitness with which a run goes on, in which none of its devices could do its task any more.

    Somebody has started such a run again, most likely since the cause is mended: a full disk has room, a worker has its
    memory. So each device that was set aside gets one task at once. In other runs, what was known stays.

    Args:
        known: Fitness by device id, as the run had ended with it.
        devices: Ids of the devices that were there then.
    """
    if not devices or any(not known.get(device, Fitness()).out for device in devices):
        return dict(known)
    again = {"failures": ASIDE_AFTER - 1, "round": 0}
    return {
        device: msgspec.structs.replace(fitness, **again) if fitness.out and not fitness.lasting else fitness
        for device, fitness in known.items()
    }


class FitnessTracker:
    """The fitness of all devices that failed lately, and the time when each may try again.

    Args:
        known: Fitness from before a restart, by device id.
        now: Present time in seconds.
    """

    def __init__(self, known: dict[str, Fitness], now: float) -> None:
        self._known = dict(known)
        self._retry_at = {device: now + fitness.pause_seconds for device, fitness in known.items()}

    def __getitem__(self, device: str) -> Fitness:
        return self._known.get(device, Fitness())

    def failed(self, device: str, fault: DeviceFault, reason: str, round: int, now: float) -> Fitness:
        """Notes a failure of a device and returns its new fitness.

        Args:
            device: Device id.
            fault: Kind of the failure.
            reason: Cause, for people.
            round: Round of the failure, or the next one if none is open.
            now: Present time in seconds.
        """
        fitness = self._known[device] = self[device].after(fault, reason, round)
        self._retry_at[device] = now + fitness.pause_seconds
        return fitness

    def forget(self, device: str) -> bool:
        """Deletes the failures of a device that did its task or changed; returns whether there were any."""
        self._retry_at.pop(device, None)
        return self._known.pop(device, None) is not None

    def retry_at(self, device: str) -> float:
        """Returns the time, in seconds, when a device may try again if no other device can take its place."""
        return self._retry_at.get(device, 0.0)
