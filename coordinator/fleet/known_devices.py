"""What is remembered of every device that ever reported, whether it is online or not."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.fleet.registry import Member, Registry
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.adaptation import RoundOutcome
from fedlp_edge.reporting.events import UpdateAccepted


@dataclass
class KnownDevices:
    """The devices of a run, by id; `Membership` keeps the tables up to date.

    Attributes:
        profiles: Name of the profile that each device reported.
        bases: Basis of the fitness of each device: the session of its agent, and how often it has measured itself.
        data: What each device says of its samples.
    """

    profiles: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    data: dict[str, DataFacts] = field(default_factory=dict)


class PlanChanges:
    """Collects the devices whose plan an accepted update has changed, until they can be assigned anew.

    Args:
        registry: Changes the plans.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._changed: list[Member] = []

    def observe(self, update: UpdateAccepted) -> None:
        """Learns from what training took on a device."""
        outcome = RoundOutcome(update.peak_memory, update.seconds, update.samples)
        member = self._registry.trained(update.device, outcome)
        if member is not None:
            self._changed.append(member)

    def take(self) -> list[Member]:
        """The members whose plan has changed since the last call, the latest one first."""
        changed, self._changed = self._changed[::-1], []
        return changed
