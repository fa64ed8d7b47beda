"""This module computes the virtual time at which each device with a task delivers its update.

A device takes as long as the planner predicts from its profile. Two random draws, availability and dropout, derive from
the run's seed, so that a repeated run has the same stragglers.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from fedlp_edge.core.seeds import uniform
from fedlp_edge.simulation.experiment import FleetSettings


def is_available(settings: FleetSettings, seed: int, round: int, device: str, attempt: int = 0) -> bool:
    """Returns whether a device is present when a round opens."""
    return uniform(seed, "available", round, device, attempt) < settings.availability


def drops_out(settings: FleetSettings, seed: int, round: int, device: str, attempt: int) -> bool:
    """Returns whether a device that has a task never delivers."""
    return uniform(seed, "dropout", round, device, attempt) < settings.dropout


@dataclass
class Timeline:
    """The future deliveries in order of time, at most one per device.

    Attributes:
        now: Virtual time, in seconds since the start of the run.
    """

    now: float = 0.0
    _deliveries: list[tuple[float, int, str]] = field(default_factory=list)
    _latest: dict[str, int] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def expect(self, device: str, seconds: float) -> None:
        """Schedules a device's delivery in ``seconds``, in place of an earlier one."""
        number = next(self._numbers)
        self._latest[device] = number
        heapq.heappush(self._deliveries, (self.now + seconds, number, device))

    def is_expected(self, device: str) -> bool:
        """Returns whether a delivery of a device is scheduled."""
        return device in self._latest

    def cancel(self, device: str) -> None:
        """Cancels a device's delivery."""
        self._latest.pop(device, None)

    def forget(self) -> None:
        """Cancels all deliveries."""
        self._deliveries.clear()
        self._latest.clear()

    def advance(self, until: float | None) -> str | None:
        """Advances the clock to the next delivery, or to ``until`` if that comes first.

        Returns:
            Id of the device that delivers; None at ``until``.

        Raises:
            ValueError: No delivery is scheduled, and ``until`` is None.
        """
        while self._deliveries and self._latest.get(self._deliveries[0][2]) != self._deliveries[0][1]:
            heapq.heappop(self._deliveries)
        if self._deliveries and (until is None or self._deliveries[0][0] <= until):
            self.now, _, device = heapq.heappop(self._deliveries)
            del self._latest[device]
            return device
        if until is None:
            raise ValueError("nothing is to come")
        self.now = max(self.now, until)
        return None
