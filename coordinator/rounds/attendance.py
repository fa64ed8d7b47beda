"""What became of each device in a run: how often it contributed, how often not, and whether it can be counted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from fedlp_edge.core.rounds.fitness import SILENT, Fitness
from fedlp_edge.reporting.summary import DeviceOutcome, RoundSummary


class Attendance:
    """Counts the committed rounds.

    Args:
        profiles: name of the profile of every device that was ever heard of.
        fitness: of a device, as it stands.
    """

    def __init__(self, profiles: Mapping[str, str], fitness: Callable[[str], Fitness]) -> None:
        self._profiles = profiles
        self._fitness = fitness
        self._seen: dict[str, str] = {}
        self._contributed: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}

    def committed(self, summary: RoundSummary) -> None:
        """Takes a round into account."""
        for device in summary.devices:
            self._seen[device.id] = device.profile
            if device.status == "contributed":
                self._contributed[device.id] += 1
            else:
                self._failed[device.id] += 1
                self._reasons[device.id] = device.reason or SILENT

    def outcomes(self) -> tuple[DeviceOutcome, ...]:
        """All devices, by name."""
        known = self._seen | dict(self._profiles)
        return tuple(self._outcome(device, known[device]) for device in sorted(known))

    def _outcome(self, device: str, profile: str) -> DeviceOutcome:
        fitness = self._fitness(device)
        return DeviceOutcome(
            id=device,
            profile=profile,
            contributed=self._contributed[device],
            failed=self._failed[device],
            state=fitness.state,
            reason=fitness.reason or self._reasons.get(device, ""),
        )
