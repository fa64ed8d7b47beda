"""Keeps track of which devices are online, ready and fit, and whether they are enough to open a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

import msgspec

from fedlp_edge.core.algorithm.selection import draw_cohort
from fedlp_edge.core.rounds.events import (
    CohortMember,
    DeviceChanged,
    DeviceGone,
    DeviceReady,
    DeviceReported,
    DeviceUnable,
    Effect,
    Event,
    FitnessChanged,
    NoDeviceFit,
    TooFewDevices,
)
from fedlp_edge.core.rounds.fitness import SILENT, DeviceFault, Fitness, FitnessTracker
from fedlp_edge.core.rounds.settings import RoundSettings

MAX_SAMPLES = 10**9
"""Largest number of samples that a device can announce; larger numbers are cut to it."""


class ReadyDevices:
    """The devices that are online: those that hold their submodel, and those that cannot take part.

    Args:
        settings: Number of devices of a round, preference in draws, and time to wait for devices after a restart.
        seed: Seed of the run.
        expected: Ids of devices that were ready before a restart.
        now: Present time in seconds.
        fitness: Fitness of devices that failed before a restart, by id.

    Attributes:
        ready: Devices that hold their submodel, by id, whether they have a task or wait for one.
        fitness_tracker: Fitness of devices that failed lately.
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
        self._reported: TooFewDevices | None = None
        self._give_up_at: float | None = None
        self._present: set[str] = set()
        self._return_until: dict[str, float] = {}  # of devices whose agents were ended
        self._now = now
        self.ready: dict[str, CohortMember] = {}
        self.fitness_tracker = FitnessTracker(dict(fitness or {}), now)

    # Events

    def take(self, event: Event, round: int, now: float, effects: list[Effect]) -> None:
        """Updates the devices after an event.

        Args:
            event: Any event.
            round: Open round, or the next one.
            now: Present time in seconds.
            effects: List that effects are appended to.
        """
        self._now = now
        match event:
            case DeviceReported(device):
                self._present.add(device)
                self._return_until.pop(device, None)
            case DeviceReady(member):
                self._present.add(member.device)
                self._return_until.pop(member.device, None)
                self.ready[member.device] = member
            case DeviceGone(device, ended):
                self._present.discard(device)
                self.ready.pop(device, None)
                if ended:
                    self._return_until[device] = now + self._settings.rejoin_seconds
            case DeviceUnable(device, fault, reason):
                self.ready.pop(device, None)
                self.failed(device, fault, reason, round, effects)
            case DeviceChanged(device):
                self.clear_failures(device, effects)
            case _:
                pass

    def failed(self, device: str, fault: DeviceFault, reason: str, round: int, effects: list[Effect]) -> None:
        """Notes that a device did not do its task."""
        effects.append(FitnessChanged(device, self.fitness_tracker.failed(device, fault, reason, round, self._now)))

    def fell_silent(self, devices: Sequence[str], round: int, effects: list[Effect]) -> set[str]:
        """Notes that ready devices delivered nothing by the deadline; returns those of them that get no more tasks."""
        for device in devices:
            self.failed(device, DeviceFault.LOST, SILENT, round, effects)
        return {device for device in devices if self.fitness_tracker[device].out}

    def clear_failures(self, device: str, effects: list[Effect]) -> None:
        """Deletes the failures of a device that did its task or changed."""
        if self.fitness_tracker.forget(device):
            effects.append(FitnessChanged(device, Fitness()))

    # Devices that may get a task

    def next_wakeup(self) -> float | None:
        """Returns the time, in seconds, when waiting for a device ends; None if no device is waited for."""
        times = [self._rejoin_until] if self._missing() else []
        return min([*times, *self.pauses()], default=None)

    def pauses(self) -> list[float]:
        """Returns the times when resting devices may try again, and when the run ends because no device is fit."""
        times = [self.fitness_tracker.retry_at(device) for device in self.ready if not self.fitness_tracker[device].out]
        if self._give_up_at is not None:
            times.append(self._give_up_at)
        return [time for time in times if time > self._now]

    def ended(self) -> set[str]:
        """Returns the ids of devices whose agents were ended, and not started again within ``rejoin_seconds``."""
        return {device for device, until in self._return_until.items() if self._now >= until}

    def end_of_wait(self, devices: Iterable[str]) -> list[float]:
        """Returns the times when waiting for those of some devices whose agents were ended is over."""
        return [until for device in devices if (until := self._return_until.get(device, self._now)) > self._now]

    def fit(self, round: int) -> set[str]:
        """Returns the ids of ready devices that may get a task of this round."""
        return {device for device in self.ready if not self.fitness_tracker[device].is_passed_over(round)}

    def retriable(self, devices: Iterable[str]) -> set[str]:
        """Returns those of some ready devices that may try again if no other device can take the place."""
        return {d for d in devices if not self.fitness_tracker[d].out and self.fitness_tracker.retry_at(d) <= self._now}

    def candidates(self, round: int) -> set[str]:
        """Returns the ids of devices for a round that opens now; resting ones only if there are no others."""
        return self.fit(round) or self.retriable(self.ready)

    def enough(self, round: int, effects: list[Effect]) -> bool:
        """Returns whether a round may open now; if not, appends ``TooFewDevices`` to ``effects`` once.

        A device that is online and cannot take part counts as present: no round waits for it.
        """
        if self._now >= self._rejoin_until:
            self._expected = frozenset()
        have = len(self.candidates(round))
        others = self._present - self.candidates(round)
        idle = sum(self.fitness_tracker[device].failures > 0 for device in others)
        wanted = max(1, self._settings.min_devices - idle, len(self._missing()) + have)
        if have >= wanted:
            self._expected, self._reported, self._give_up_at = frozenset(), None, None
            return True
        too_few = TooFewDevices(have, wanted, idle, len(others) - idle)
        if self._reported != too_few:
            self._reported = too_few
            effects.append(too_few)
        self.end_run_if_none_fit(effects)
        return False

    def end_run_if_none_fit(self, effects: list[Effect]) -> None:
        """Ends the run after a delay if no online device can ever do its task; called when no round can go on."""
        reasons = {
            device: self.fitness_tracker[device].reason
            for device in sorted(self._present)
            if self.fitness_tracker[device].out
        }
        if not reasons or len(reasons) < max(len(self._present), self._settings.min_devices):
            self._give_up_at = None
        elif self._give_up_at is None:
            # Other devices may be about to come, or a person may be removing the cause.
            self._give_up_at = self._now + self._settings.rejoin_seconds
            effects.append(NoDeviceFit(reasons, self._settings.rejoin_seconds))
        elif self._now >= self._give_up_at:
            effects.append(NoDeviceFit(reasons, 0.0))

    def draw(self, candidates: Iterable[str], size: int, round: int) -> tuple[str, ...]:
        """Draws ``size`` of some ready devices (all if it is 0); a restart of the coordinator draws the same ones."""
        depths = {device: self.ready[device].depth for device in candidates}
        return draw_cohort(
            depths, size, seed=self._seed, round=round, preference=self._settings.preference(depths, size)
        )

    def place(self, device: str) -> CohortMember:
        """Returns the place of a ready device, with a weight that is bounded by the median of all ready devices.

        The announced number of samples cannot be checked. A number far above all others would let one device decide the
        average, or, if it never delivers, reduce the precision of the fixed-point sum for the others.
        """
        place = self.ready[device]
        usual = median_low(other.weight for other in self.ready.values())
        most = max(1, int(self._settings.max_sample_ratio * usual))
        return place if place.weight <= most else msgspec.structs.replace(place, weight=most)

    def _missing(self) -> frozenset[str]:
        return self._expected - self._present
