"""Who can be counted on: what a device's failures say about its next task. Pure.

A *lasting* fault (the data do not go with the model) will be there at every further attempt: the device is unfit until
it changes. A *passing* one (a worker that died) may be over: the device rests for ever more rounds, and once it has
failed so often in a row, it is set aside. Neither an unfit device nor one that is set aside counts for a quorum.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec

REFUSALS = 3
"""Updates in a row whose values were refused, after which that is what this device makes."""

ASIDE_AFTER = 4
"""Failures in a row, after which nobody waits for a device any more."""

LONGEST_REST = 64
"""Rounds: a device that is set aside is tried again, now and then."""

SILENT = "nothing by the deadline"
"""What is said of a device that is there and did not deliver."""

FIRST_SECONDS = 2.0
"""Between a failure and another attempt in the same round, where nobody else could take the place."""

LONGEST_SECONDS = 60.0


class DeviceFault(Enum):
    """Why a device did not do its task, by what that says about its next one."""

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
    """One device that failed lately; whoever did not has no such thing.

    Attributes:
        failures: in a row.
        refusals: of values, in a row.
        lasting: whether the next attempt would fail as well.
        round: from which on it may get a task again.
        reason: of the latest failure, for people.
    """

    failures: int = 0
    refusals: int = 0
    lasting: bool = False
    round: int = 0
    reason: str = ""

    def after(self, fault: DeviceFault, reason: str, round: int) -> Fitness:
        """What one more failure makes of it.

        Args:
            fault: that it had.
            reason: in words.
            round: in which it happened, or which is next.
        """
        failures = self.failures + 1
        refusals = self.refusals + 1 if fault is DeviceFault.VALUES else 0
        lasting = self.lasting or fault in _LASTING or refusals >= REFUSALS
        return Fitness(failures, refusals, lasting, round + min(2 ** (failures - 1), LONGEST_REST), reason)

    @property
    def state(self) -> State:
        """In a word."""
        if self.lasting:
            return "unfit"
        return "set aside" if self.failures >= ASIDE_AFTER else "resting" if self.failures else "fit"

    @property
    def out(self) -> bool:
        """Whether nobody should wait for this device."""
        return self.lasting or self.failures >= ASIDE_AFTER

    def rests(self, round: int) -> bool:
        """Whether it gets no task of a round that opens now."""
        return self.lasting or round < self.round

    @property
    def pause_seconds(self) -> float:
        """Before it may try again in a round that has nobody else."""
        return min(FIRST_SECONDS * 2.0 ** max(0, self.failures - 1), LONGEST_SECONDS)


class Roster:
    """The fitness of all devices that failed lately, and when each may try again.

    Args:
        known: from before a restart.
        now: the time.
    """

    def __init__(self, known: dict[str, Fitness], now: float) -> None:
        self._known = dict(known)
        self._rested = {device: now + fitness.pause_seconds for device, fitness in known.items()}

    def __getitem__(self, device: str) -> Fitness:
        return self._known.get(device, Fitness())

    def failed(self, device: str, fault: DeviceFault, reason: str, round: int, now: float) -> Fitness:
        """A device failed; returns its new fitness."""
        fitness = self._known[device] = self[device].after(fault, reason, round)
        self._rested[device] = now + fitness.pause_seconds
        return fitness

    def forget(self, device: str) -> bool:
        """A device did its task, or is another one now; returns whether there was anything to forget."""
        self._rested.pop(device, None)
        return self._known.pop(device, None) is not None

    def rested_at(self, device: str) -> float:
        """When a device may try again where nobody else can take its place."""
        return self._rested.get(device, 0.0)
