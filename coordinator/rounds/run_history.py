"""Keeps the history of a run's committed rounds: the last one, who contributed, and which depths were trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.fitness import SILENT, Fitness
from fedlp_edge.reporting.judged_rounds import JudgedRounds, Judging
from fedlp_edge.reporting.summary import DeviceOutcome, RoundSummary

_UNJUDGED = Judging()


class RunHistory:
    """The history of the committed rounds, as counts; rounds before the last one stand in the journal alone.

    Args:
        blueprint: Blueprint of the model.
        profiles: Name of the profile of every device that ever reported; kept up to date by the caller.
        judging: Rule by which the rounds are evaluated.

    Attributes:
        judged: The rounds, judged.
        last: Summary of the round that was committed last; None before the first.
        profiles: Name of the profile of every device that ever reported.
    """

    def __init__(self, blueprint: Blueprint, profiles: Mapping[str, str], judging: Judging = _UNJUDGED) -> None:
        self._blueprint = blueprint
        self.profiles = profiles
        self.judged = JudgedRounds(judging)
        self._answer = judging.answer
        self.last: RoundSummary | None = None
        self._trained_depths: set[int] = set()
        self._seen: dict[str, str] = {}
        self._contributed: Counter[str] = Counter()
        self._last_counted: dict[str, int] = {}
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._thresholds: dict[int, dict[int, float]] = {}

    @property
    def committed(self) -> int:
        """Number of the round that was committed last; 0 before the first."""
        return self.last.round if self.last else 0

    @property
    def useful_depths(self) -> tuple[int, ...]:
        """Depths worth exporting: those that some device trains, and the full model.

        Personal heads are not here, so only the full model is then left. An exit that no device ever held
        still has the numbers that it was initialised with.
        """
        full = self._blueprint.full_depth
        if self._blueprint.head_mode == "personal":
            return (full,)
        return tuple(sorted(self._trained_depths | {full}))

    @property
    def judged_depths(self) -> tuple[int, ...]:
        """Depths whose models central test data judge, see ``Blueprint.judged_depths``."""
        return self._blueprint.judged_depths(self._trained_depths)

    @property
    def full_depth_trained(self) -> bool:
        """Whether some device was ever given the full model."""
        return self._blueprint.full_depth in self._trained_depths

    def replay(self, summaries: Iterable[bytes]) -> None:
        """Takes the rounds into account that earlier lives of the coordinator have committed."""
        for row in summaries:
            self.add(msgspec.json.decode(row, type=RoundSummary))

    def add(self, summary: RoundSummary) -> None:
        """Takes a committed round into account."""
        self.last = summary
        self.judged.add(summary)
        if summary.thresholds and summary.answer == self._answer:
            self._thresholds[summary.round - 1] = summary.thresholds
        for device in summary.devices:
            self._trained_depths.add(device.depth)
            self._seen[device.id] = device.profile
            if device.status == "contributed":
                self._contributed[device.id] += 1
                self._last_counted[device.id] = summary.round - device.staleness
            else:
                self._failed[device.id] += 1
                self._reasons[device.id] = device.reason or SILENT

    def last_counted(self, device: str) -> int:
        """Returns the round of a device's last task whose update is in the model; 0 if there is none."""
        return self._last_counted.get(device, 0)

    def thresholds(self, round: int) -> dict[int, float]:
        """Returns the thresholds of an anomaly detector by depth, as devices have measured them; empty without any.

        Args:
            round: Number of the round that made the model. Of the last one, which no device has trained on, the
                thresholds are those of the model before.
        """
        measured = [model for model in self._thresholds if model <= round]
        return self._thresholds[max(measured)] if measured else {}

    def note_cohort(self, cohort: Iterable[CohortMember]) -> None:
        """Notes the depths that the devices of an open round train."""
        self._trained_depths.update(place.depth for place in cohort)

    def outcomes(self, fitness: Callable[[str], Fitness]) -> tuple[DeviceOutcome, ...]:
        """Returns the outcome of each device, by id.

        Args:
            fitness: Fitness of a device, as it stands.
        """
        known = self._seen | dict(self.profiles)
        return tuple(self._outcome(device, known[device], fitness(device)) for device in sorted(known))

    def _outcome(self, device: str, profile: str, fitness: Fitness) -> DeviceOutcome:
        return DeviceOutcome(
            id=device,
            profile=profile,
            contributed=self._contributed[device],
            failed=self._failed[device],
            state=fitness.state,
            reason=fitness.reason or self._reasons.get(device, ""),
            failed_last=fitness.failures,
        )
