"""Who is there, who can be counted on, and whether that is enough to open a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median_low

import msgspec

from fedlp_edge.core.algorithm.selection import draw_cohort
from fedlp_edge.core.rounds.events import (
    CohortMember,
    DeviceGone,
    DeviceReady,
    DeviceRenewed,
    DeviceReported,
    DeviceUnable,
    Effect,
    Event,
    FitnessChanged,
    NoDeviceFit,
    TooFewDevices,
)
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness, Roster
from fedlp_edge.core.rounds.settings import RoundSettings

MOST_SAMPLES = 10**9
"""That a device can have; what it says beyond is not believed."""


class ReadyDevices:
    """The devices that are there: some hold their submodel and wait for work, or have work; some cannot take part.

    Args:
        settings: how many a round needs, whom it prefers, and how long to wait for those that were there before.
        seed: of the run.
        expected: devices that were ready before a restart.
        now: the time.
        fitness: of devices that failed before a restart.

    Attributes:
        ready: those that hold their submodel.
        roster: who failed lately.
    """

    def __init__(
        self,
        settings: RoundSettings,
        seed: int,
        expected: frozenset[str],
        now: float,
        fitness: Mapping[str, Fitness] | None = None,
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._expected = expected
        self._rejoin_until = now + settings.rejoin_seconds if expected else now
        self._reported: tuple[int, int] | None = None
        self._give_up_at: float | None = None
        self._present: set[str] = set()
        self._now = now
        self.ready: dict[str, CohortMember] = {}
        self.roster = Roster(dict(fitness or {}), now)

    # Devices come, go, fail and do better

    def take(self, event: Event, round: int, now: float, effects: list[Effect]) -> None:
        """Takes note of the time, and of who came, went, or is another one now.

        Args:
            event: whatever happened.
            round: that is open, or next.
            now: the time.
            effects: what is to be done is put here.
        """
        self._now = now
        match event:
            case DeviceReported(device):
                self._present.add(device)
            case DeviceReady(member):
                self._present.add(member.device)
                self.ready[member.device] = member
            case DeviceGone(device):
                self._present.discard(device)
                self.ready.pop(device, None)
            case DeviceUnable(device, fault, reason):
                self.ready.pop(device, None)
                self.failed(device, fault, reason, round, effects)
            case DeviceRenewed(device):
                self.trust(device, effects)
            case _:
                pass

    def failed(self, device: str, fault: DeviceFault, reason: str, round: int, effects: list[Effect]) -> None:
        """A device did not do what it was told to."""
        effects.append(FitnessChanged(device, self.roster.failed(device, fault, reason, round, self._now)))

    def trust(self, device: str, effects: list[Effect]) -> None:
        """A device did its task, or is another one now."""
        if self.roster.forget(device):
            effects.append(FitnessChanged(device, Fitness()))

    # Who may work

    def next_wakeup(self) -> float | None:
        """When waiting for somebody ends; None if nobody is waited for."""
        times = [self._rejoin_until] if self._missing() else []
        return min([*times, *self.pauses()], default=None)

    def pauses(self) -> list[float]:
        """When somebody who rests may try again, and when the run is given up since nobody is fit."""
        times = [self.roster.rested_at(device) for device in self.ready if not self.roster[device].out]
        if self._give_up_at is not None:
            times.append(self._give_up_at)
        return [time for time in times if time > self._now]

    def fit(self, round: int) -> set[str]:
        """Ready devices that may get a task of this round."""
        return {device for device in self.ready if not self.roster[device].rests(round)}

    def rested(self, devices: Iterable[str]) -> set[str]:
        """Of these ready devices, those that may try again where nobody else can do it."""
        return {d for d in devices if not self.roster[d].out and self.roster.rested_at(d) <= self._now}

    def candidates(self, round: int) -> set[str]:
        """Ready devices for a round that opens now; those that rest only if there are no others."""
        return self.fit(round) or self.rested(self.ready)

    def enough(self, round: int, effects: list[Effect]) -> bool:
        """Whether a round may open now; if not, says so once in ``effects``.

        A device that is there and cannot take part has come: nobody need wait for it.
        """
        if self._now >= self._rejoin_until:
            self._expected = frozenset()
        have = len(self.candidates(round))
        idle = sum(self.roster[device].failures > 0 for device in self._present - self.candidates(round))
        wanted = max(1, self._settings.min_devices - idle, len(self._missing()) + have)
        if have >= wanted:
            self._expected, self._reported, self._give_up_at = frozenset(), None, None
            return True
        if self._reported != (have, wanted):
            self._reported = (have, wanted)
            effects.append(TooFewDevices(have, wanted))
        self.look_for_hope(effects)
        return False

    def look_for_hope(self, effects: list[Effect]) -> None:
        """Called when no round can open or go on: gives the run up if nobody who is there will ever be able to."""
        reasons = {device: self.roster[device].reason for device in sorted(self._present) if self.roster[device].out}
        if not reasons or len(reasons) < max(len(self._present), self._settings.min_devices):
            self._give_up_at = None
        elif self._give_up_at is None:
            # Others may be on their way, or somebody is just mending the cause.
            self._give_up_at = self._now + self._settings.rejoin_seconds
            effects.append(NoDeviceFit(reasons, self._settings.rejoin_seconds))
        elif self._now >= self._give_up_at:
            effects.append(NoDeviceFit(reasons, 0.0))

    def draw(self, candidates: Iterable[str], size: int, round: int) -> tuple[str, ...]:
        """So many of these ready devices (all if ``size`` is 0), the same in every life of the coordinator."""
        depths = {device: self.ready[device].depth for device in candidates}
        return draw_cohort(
            depths, size, seed=self._seed, round=round, preference=self._settings.preference(depths, size)
        )

    def place(self, device: str) -> CohortMember:
        """The place of a ready device: what it weighs is bounded by what the others have.

        What a device says of its samples cannot be checked, and it need not deliver: a number far above all others
        would make it decide the average, or, never delivered, take the precision away from that of the others.
        """
        place = self.ready[device]
        usual = median_low(other.weight for other in self.ready.values())
        most = max(1, int(self._settings.max_sample_ratio * usual))
        return place if place.weight <= most else msgspec.structs.replace(place, weight=most)

    def _missing(self) -> frozenset[str]:
        return self._expected - self._present
