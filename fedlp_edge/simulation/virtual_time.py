"""Virtual time: when each device that has a task delivers, if it does.

A device takes as long as the planner predicts from its profile. Chance enters through two probabilities, each drawn
from the run's seed, so that a repeated run has the same stragglers.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from fedlp_edge.core.seeds import uniform
from fedlp_edge.simulation.experiment import FleetSettings


def is_there(settings: FleetSettings, seed: int, round: int, device: str, attempt: int = 0) -> bool:
    """Whether a device is ready when a round opens."""
    return uniform(seed, "available", round, device, attempt) < settings.availability


def drops_out(settings: FleetSettings, seed: int, round: int, device: str, attempt: int) -> bool:
    """Whether a device that has a task never delivers."""
    return uniform(seed, "dropout", round, device, attempt) < settings.dropout


@dataclass
class Timeline:
    """Deliveries to come, in order of time, at most one a device.

    Attributes:
        now: the time, in seconds since the start of the run.
    """

    now: float = 0.0
    _deliveries: list[tuple[float, int, str]] = field(default_factory=list)
    _latest: dict[str, int] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def expect(self, device: str, seconds: float) -> None:
        """A device will deliver in so many seconds, and not what it was expected to deliver before."""
        number = next(self._numbers)
        self._latest[device] = number
        heapq.heappush(self._deliveries, (self.now + seconds, number, device))

    def is_expected(self, device: str) -> bool:
        """Whether a device is going to deliver."""
        return device in self._latest

    def cancel(self, device: str) -> None:
        """A device will not deliver."""
        self._latest.pop(device, None)

    def forget(self) -> None:
        """Nothing that is under way matters any more."""
        self._deliveries.clear()
        self._latest.clear()

    def advance(self, until: float | None) -> str | None:
        """Goes to the next delivery, or to a point in time if that comes first.

        Returns:
            Who delivers; None at that point.

        Raises:
            ValueError: neither is to come.
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
