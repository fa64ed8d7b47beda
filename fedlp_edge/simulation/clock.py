"""Virtual time: when each device of a cohort delivers, if it does.

A device takes as long as the planner predicts from its profile. Chance enters through two probabilities, each drawn
from the run's seed, so that a repeated run has the same stragglers.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from fedlp_edge.core.seeds import uniform
from fedlp_edge.simulation.experiment import FleetSettings
from fedlp_edge.simulation.fleet import VirtualDevice


def is_there(settings: FleetSettings, seed: int, round: int, device: str, attempt: int = 0) -> bool:
    """Whether a device is ready when a round opens."""
    return uniform(seed, "available", round, device, attempt) < settings.availability


def drops_out(settings: FleetSettings, seed: int, round: int, device: str, attempt: int) -> bool:
    """Whether a device that has a task never delivers."""
    return uniform(seed, "dropout", round, device, attempt) < settings.dropout


def seconds_for(device: VirtualDevice) -> float:
    """What a round takes a device; 0 if its profile says nothing of its speed."""
    return device.plan.seconds


@dataclass
class Timeline:
    """Deliveries to come, in order of time.

    Attributes:
        now: the time, in seconds since the start of the run.
    """

    now: float = 0.0
    _deliveries: list[tuple[float, int, str]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def expect(self, device: str, seconds: float) -> None:
        """A device will deliver in so many seconds."""
        heapq.heappush(self._deliveries, (self.now + seconds, next(self._order), device))

    def forget(self) -> None:
        """Nothing that is under way matters any more."""
        self._deliveries.clear()

    def advance(self, deadline: float | None) -> str | None:
        """Goes to the next delivery, or to the deadline if that comes first.

        Returns:
            Who delivers; None at the deadline.

        Raises:
            ValueError: neither is to come.
        """
        if self._deliveries and (deadline is None or self._deliveries[0][0] <= deadline):
            self.now, _, device = heapq.heappop(self._deliveries)
            return device
        if deadline is None:
            raise ValueError("nothing is to come")
        self.now = max(self.now, deadline)
        return None
