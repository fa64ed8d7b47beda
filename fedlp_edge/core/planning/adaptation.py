"""What a device's reports and rounds mean for its plan: when it stays, shrinks or grows.

A plan is made when a device first reports and stays for the run: measured speeds differ from one start to the next, and
a fleet that is planned anew at every hiccup cannot be reproduced. It is made anew when the device itself changes
(another profile, another amount of data, less memory than the plan needs, or a link over which it cannot be done within
a round), and changed after what rounds show: memory that ran out, time that did not suffice, room for more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan, plan
from fedlp_edge.core.planning.prediction import (
    device_memory,
    epoch_seconds,
    library_memory,
    training_seconds,
    transfer_seconds,
)
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import BroadcastEncoding

SLOW_ROUNDS = 2
"""In a row, after which a device is not unlucky but slow."""

MIN_RATIO = 0.25
"""Of measured to predicted memory or time, and its inverse: what lies outside says more about the measurement."""

BETTER_LINK = 2.0
"""Times the rate of before, which is reason for another plan: a better link allows more digits, layers or depth."""

LINK_SHARE = 0.1
"""Of the time of a round, from which on the link counts for whether a device can keep its plan."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a device's accepted update says about how its training went.

    Attributes:
        peak_memory: Bytes that training took; 0 if unknown.
        seconds: Seconds of training.
        samples: Number of samples in an epoch; None for all that the device has.
    """

    peak_memory: int
    seconds: float
    samples: int | None = None


@dataclass(frozen=True)
class TrackRecord:
    """How the latest rounds of a device went under its present plan.

    Attributes:
        good_rounds: Number of good rounds since its plan changed, a round was slow, or more depth was last considered.
        slow_rounds: Number of slow rounds in a row, in which training took longer than a round is planned for.
    """

    good_rounds: int = 0
    slow_rounds: int = 0


class Adaptation(NamedTuple):
    """What a round leads to.

    Attributes:
        plan: The new one; None if the device keeps what it has.
        record: Track record that the next round is added to.
    """

    plan: Plan | None
    record: TrackRecord


@dataclass(frozen=True)
class AdaptivePlanner:
    """Makes the plans of a run's devices, and decides after every report and round whether they hold.

    It remembers nothing: whoever asks keeps a device's facts, plan and record.

    Attributes:
        blueprint: Blueprint of the run's model, with the cost of every depth.
        rules: Rules that all plans follow.
    """

    blueprint: Blueprint
    rules: PlanningRules

    def after_report(
        self,
        facts: DeviceFacts,
        known: Plan | None = None,
        *,
        changed: bool = False,
        before: DeviceFacts | None = None,
    ) -> Plan:
        """The plan of a device that reports.

        Args:
            facts: Facts that the device reports.
            known: The plan that it had; None for a new device.
            changed: Whether it is another device than the one that had it (see ``planning_basis``).
            before: What it reported earlier in the same life; rates of different lives differ by chance.

        Returns:
            The plan that it had, if that still fits; ``depth`` 0 if the device can bear nothing.
        """
        if known is None or changed:
            return plan(facts, self.blueprint, self.rules)
        # What a device could not bear stays with it when it is planned anew.
        stays = self._still_fits(known, facts) and not (before and _has_better_link(before, facts))
        return known if stays else plan(facts, self.blueprint, self.rules, known.ceiling)

    def with_broadcast(self, encoding: BroadcastEncoding) -> AdaptivePlanner:
        """Returns a planner for a fleet whose model travels in this encoding from now on."""
        update = msgspec.structs.replace(self.rules.update, broadcast=encoding)
        return AdaptivePlanner(self.blueprint, msgspec.structs.replace(self.rules, update=update))

    def after_memory_failure(self, given: Plan, facts: DeviceFacts, reason: str) -> Plan | None:
        """One depth less, for good, for a device that ran out of memory; None if there is none left."""
        if given.depth <= 1:
            return None
        return self._one_less(given, facts, f"after depth {given.depth} ran out of memory: {reason}")

    def after_round(self, given: Plan, facts: DeviceFacts, record: TrackRecord, outcome: RoundOutcome) -> Adaptation:
        """What a device's update says about its plan.

        A device that twice in a row trained longer than a round is planned for is held back by something that its
        report did not say: it gets one depth less. So does one whose time did not suffice for all its samples, and
        that would have trained so long with all of them. One that has room after ``promote_after_rounds`` good rounds
        gets one depth more, if what it really took, memory and time in proportion, says that it bears it, and if that
        depth never failed.
        """
        if self.rules.scheme.depth != "auto":
            return Adaptation(None, record)
        planned, seconds = self.rules.planned_seconds, outcome.seconds
        if outcome.samples:
            seconds *= max(1.0, facts.samples / outcome.samples)
        slow = record.slow_rounds + 1 if seconds > planned else 0
        if slow >= SLOW_ROUNDS and given.depth > 1:
            why = f"after depth {given.depth} trained {seconds:.0f} s where {planned:.0f} are planned"
            return Adaptation(self._one_less(given, facts, why), TrackRecord())
        good, wanted = 0 if slow else record.good_rounds + 1, self.rules.planner.promote_after_rounds
        if not wanted or good < wanted or not outcome.peak_memory:
            return Adaptation(None, TrackRecord(good, slow))
        taken = outcome.peak_memory + library_memory(self.blueprint, self.rules.training)
        deeper = self._one_more(given, facts, _bounded(taken / max(1, given.memory_bytes)), seconds)
        return Adaptation(deeper, TrackRecord(0, slow if deeper is None else 0))

    def corrected_facts(self, given: Plan, facts: DeviceFacts, seconds: float) -> DeviceFacts:
        """A device's report with the speed that its training of ``seconds`` showed."""
        training = msgspec.structs.replace(self.rules.training, memory=given.memory_saving)
        cost = self.blueprint.costs[given.depth - 1]
        speed, calibration = facts.training_macs_per_second, facts.calibration
        predicted = training.epochs * epoch_seconds(cost, training, facts.samples, speed, calibration)
        if not (predicted and seconds):
            return facts
        ratio = _bounded(seconds / predicted)
        if calibration is not None:
            calibration = msgspec.structs.replace(calibration, correction=calibration.correction * ratio)
        return msgspec.structs.replace(facts, training_macs_per_second=speed / ratio, calibration=calibration)

    def _one_less(self, given: Plan, facts: DeviceFacts, why: str) -> Plan:
        depth, memory_saving = given.depth - 1, given.memory_saving
        if self.rules.scheme.depth == "auto" and "allocation" in self.rules.planner.techniques:
            # Memory is short here, whatever was predicted.
            memory_saving = msgspec.structs.replace(memory_saving, allocator="exact")
        training = msgspec.structs.replace(self.rules.training, memory=memory_saving)
        return msgspec.structs.replace(
            given,
            depth=depth,
            memory_bytes=device_memory(self.blueprint, depth, training, facts.calibration),
            explanation=f"depth {depth} of {self.blueprint.full_depth} {why}",
            memory_saving=memory_saving,
            ceiling=depth,
        )

    def _one_more(self, given: Plan, facts: DeviceFacts, memory_ratio: float, seconds: float) -> Plan | None:
        """One depth more, if it fits when predictions are off as they were for the present one.

        Args:
            given: The plan so far.
            facts: Facts that the device reported.
            memory_ratio: Ratio of memory, measured over predicted.
            seconds: Seconds that training took.
        """
        ceiling = min(given.depth + 1, given.ceiling or self.blueprint.full_depth)
        corrected = self.corrected_facts(given, facts, seconds)
        corrected = msgspec.structs.replace(corrected, training_memory=int(corrected.training_memory / memory_ratio))
        chosen = plan(corrected, self.blueprint, self.rules, ceiling)
        if chosen.depth <= given.depth:
            return None
        rounds = self.rules.planner.promote_after_rounds
        return msgspec.structs.replace(
            chosen,
            explanation=f"{chosen.explanation}; one more after {rounds} good rounds",
            memory_bytes=int(chosen.memory_bytes * memory_ratio),
            ceiling=given.ceiling,
        )

    def _still_fits(self, known: Plan, facts: DeviceFacts) -> bool:
        if known.depth == 0:
            return False
        if self.rules.scheme.depth != "auto":
            return True
        training = msgspec.structs.replace(self.rules.training, memory=known.memory_saving)
        rate, broadcast = facts.link_bytes_per_second, self.rules.update.broadcast
        if broadcast == "auto":
            broadcast = known.broadcast
        down, up = transfer_seconds(self.blueprint, known.depth, known.encoding, rate, broadcast)
        link = down + known.lpr * up
        total = link + training_seconds(self.blueprint, known.depth, training, facts)
        # Measured speeds differ from start to start: a plan stays unless it is the link that makes it hopeless.
        in_time = total <= self.rules.deadline_seconds or link < LINK_SHARE * total
        return in_time and known.memory_bytes <= facts.training_memory


def planning_basis(facts: DeviceFacts) -> str:
    """Digest of what a plan rests on that does not change from one start of an agent to the next."""
    lasting = (facts.profile, facts.processor, facts.samples, facts.threads, facts.memory_total)
    return hashlib.sha256(msgspec.json.encode(lasting)).hexdigest()


def _has_better_link(before: DeviceFacts, after: DeviceFacts) -> bool:
    old, new = before.link_bytes_per_second, after.link_bytes_per_second
    return old is not None and new is not None and new >= BETTER_LINK * old


def _bounded(ratio: float) -> float:
    return min(max(ratio, MIN_RATIO), 1 / MIN_RATIO)
