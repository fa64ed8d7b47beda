"""How fast the links of the devices are, for whoever sends to them or waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from coordinator.fleet.registry import Member
from fedlp_edge.core.blueprint import Blueprint


class Links(Protocol):
    """Rates in bytes per second, in the slower direction; None where none is known."""

    def rate(self, device: str) -> float | None:
        """Of one device that is online."""

    def slowest(self, unit: str) -> float | None:
        """Of the slowest of those who listen to a unit and have told a rate."""


class FleetLinks:
    """The links of the devices that are online.

    Args:
        blueprint: Blueprint of the model.
        members: Members of the fleet, by device.
        deadline_seconds: Seconds of a round. A device that cannot even fetch a unit in that time has no say in how it
            is sent.
    """

    def __init__(self, blueprint: Blueprint, members: Mapping[str, Member], deadline_seconds: float) -> None:
        self._members = members
        self._units = {depth: {unit.id for unit in blueprint.exchanged_by(depth)} for depth in blueprint.depths}
        self._least = {unit.id: unit.nbytes / deadline_seconds for unit in blueprint.units}

    def rate(self, device: str) -> float | None:
        """See ``Links.rate``."""
        member = self._members.get(device)
        return member.facts.link_bytes_per_second if member else None

    def slowest(self, unit: str) -> float | None:
        """See ``Links.slowest``."""
        listeners = (m for m in self._members.values() if unit in self._units.get(m.plan.depth, ()))
        rates = (member.facts.link_bytes_per_second for member in listeners)
        return min((rate for rate in rates if rate is not None and rate >= self._least[unit]), default=None)


class UnknownLinks:
    """Nothing is known of any link."""

    def rate(self, device: str) -> float | None:
        """See ``Links.rate``."""
        del device
        return None

    def slowest(self, unit: str) -> float | None:
        """See ``Links.slowest``."""
        del unit
        return None
