"""Who is in the fleet, what each device can bear, and what it was given.

A device's plan is made when it first reports and stays for the run: measured speeds differ from one start
to the next, and a fleet that is replanned at every hiccup cannot be reproduced. It is replanned when the
device itself changes: another profile, another amount of data, less memory than its plan needs, or a link over which
that cannot be done within a round.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import TIME_SHARE, Plan, plan
from fedlp_edge.core.planning.prediction import device_memory, epoch_seconds, training_seconds, transfer_seconds
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.ready_devices import MOST_SAMPLES
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings
from fedlp_edge.storage.journal import Journal

SLOW_ROUNDS = 2
"""In a row, after which a device is not unlucky but slow."""

LEAST_RATIO = 0.25
"""Of measured to predicted memory or time, and its inverse: what lies outside says more about the measurement."""


LINK_SHARE = 0.1
"""Of the time of a round, from which on the link counts for whether a device can keep its plan."""


@dataclass
class Member:
    """One device of the fleet.

    Attributes:
        session: of the agent's present life.
        ready: whether it holds its submodel and is subscribed.
        good_rounds: since its plan changed or a round was slow.
        slow_rounds: in a row, in which training took longer than a round is planned for.
    """

    device: str
    session: str
    facts: DeviceFacts
    plan: Plan
    ready: bool = False
    good_rounds: int = 0
    slow_rounds: int = 0

    def member(self, *, uniform: bool) -> CohortMember:
        """Its place in a round that opens now."""
        samples = min(max(1, self.facts.samples), MOST_SAMPLES)
        weight = 1 if uniform else samples
        given = self.plan
        return CohortMember(
            self.device,
            given.depth,
            given.lpr,
            samples,
            weight,
            encoding=given.encoding,
            memory_saving=given.memory_saving,
        )


class Registry:
    """The members that are online, and the plans of all that ever were.

    Args:
        blueprint: of the run's model.
        scheme: enters the plans.
        training: enters the plans.
        deadline_seconds: of a round.
        journal: remembers plans between starts.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        scheme: SchemeSettings,
        training: TrainingSettings,
        deadline_seconds: float,
        journal: Journal,
    ) -> None:
        self._blueprint = blueprint
        self._scheme = scheme
        self._training = training
        self._deadline = deadline_seconds
        self._journal = journal
        self._plans = journal.plans()
        self._journaled: dict[str, tuple[Plan, str, bool]] = {}
        self.members: dict[str, Member] = {}

    def arrive(self, device: str, session: str, facts: DeviceFacts) -> Member:
        """Takes a device's report; its plan has depth 0 if it can bear nothing."""
        basis = _basis(facts)
        known = self._plans.get(device)
        chosen = known[0] if known and known[1] == basis and self._still_fits(known[0], facts) else None
        if chosen is None:
            # What a device could not bear it remembers, unless it is another one now.
            ceiling = known[0].ceiling if known and known[1] == basis else 0
            chosen = plan(facts, self._blueprint, self._scheme, self._training, self._deadline, ceiling)
            self._plans[device] = (chosen, basis)
        before = self.members.get(device)
        same_life = before is not None and before.session == session and before.plan == chosen
        member = Member(device, session, facts, chosen, ready=bool(before and before.ready and same_life))
        if before is not None and same_life:
            member.good_rounds, member.slow_rounds = before.good_rounds, before.slow_rounds
        self.members[device] = member
        self._remember(member)
        return member

    def ready(self, device: str, session: str, depth: int) -> Member | None:
        """Marks a device ready; None if the message is of an earlier life or plan."""
        member = self.members.get(device)
        if member is None or member.session != session or member.plan.depth != depth:
            return None
        member.ready = True
        self._remember(member)
        return member

    def leave(self, device: str, session: str) -> Member | None:
        """Takes a device out; None if that life of it is over already."""
        member = self.members.get(device)
        if member is None or member.session != session:
            return None
        member.ready = False
        self._remember(member)
        return self.members.pop(device)

    def shrink(self, device: str, reason: str) -> Member | None:
        """Gives a device that ran out of memory one depth less, for good; None if there is none left."""
        member = self.members.get(device)
        if member is None or member.plan.depth <= 1:
            return None
        return self._descend(member, f"after depth {member.plan.depth} ran out of memory: {reason}")

    def observe(self, device: str, peak_memory: int, seconds: float, samples: int | None = None) -> Member | None:
        """Learns from an update what training took.

        A device that twice in a row trained longer than a round is planned for is held back by something that its
        report did not tell: it gets one depth less. So is one whose time did not suffice for all its samples, and that
        would have trained so long with all of them. One that has room after ``promote_after_rounds`` good rounds gets
        one depth more, if what it really took, memory and time in proportion, says that it bears it, and if that depth
        never failed.

        Args:
            device: whose update was accepted.
            peak_memory: bytes that training took; 0 if unknown.
            seconds: of training.
            samples: that it saw an epoch; all that it has by default.

        Returns:
            The member, if its plan changed; it must be assigned anew.
        """
        member = self.members.get(device)
        if member is None or self._scheme.depth != "auto":
            return None
        planned = TIME_SHARE * self._deadline
        if samples:
            seconds *= max(1.0, member.facts.samples / samples)
        member.slow_rounds = member.slow_rounds + 1 if seconds > planned else 0
        if member.slow_rounds >= SLOW_ROUNDS and member.plan.depth > 1:
            depth = member.plan.depth
            return self._descend(member, f"after depth {depth} trained {seconds:.0f} s where {planned:.0f} are planned")
        member.good_rounds = 0 if member.slow_rounds else member.good_rounds + 1
        if (
            not self._scheme.promote_after_rounds
            or member.good_rounds < self._scheme.promote_after_rounds
            or not peak_memory
        ):
            return None
        member.good_rounds = 0
        taken = peak_memory + self._blueprint.building.libraries
        return self._ascend(member, taken / max(1, member.plan.memory_bytes), seconds)

    def _ascend(self, member: Member, ratio: float, seconds: float) -> Member | None:
        """One depth more, if it fits when predictions are off as they were for the present one.

        Args:
            member: who may climb.
            ratio: of memory, measured over predicted.
            seconds: that training took.
        """
        given = member.plan
        bounded = _bounded(ratio)
        deeper = min(given.depth + 1, given.ceiling or self._blueprint.full_depth)
        facts = self._experienced(member, seconds)
        facts = msgspec.structs.replace(facts, training_memory=int(facts.training_memory / bounded))
        chosen = plan(facts, self._blueprint, self._scheme, self._training, self._deadline, deeper)
        if chosen.depth <= given.depth:
            return None
        words = f"{chosen.explanation}; one more after {self._scheme.promote_after_rounds} good rounds"
        needed = int(chosen.memory_bytes * bounded)
        return self._change(
            member,
            msgspec.structs.replace(chosen, explanation=words, memory_bytes=needed, ceiling=given.ceiling),
        )

    def _experienced(self, member: Member, seconds: float) -> DeviceFacts:
        """A device's report with its pace as a round showed it."""
        facts, given = member.facts, member.plan
        training = msgspec.structs.replace(self._training, memory=given.memory_saving)
        cost = self._blueprint.costs[given.depth - 1]
        speed, calibration = facts.training_macs_per_second, facts.calibration
        predicted = training.epochs * epoch_seconds(cost, training, facts.samples, speed, calibration)
        if not (predicted and seconds):
            return facts
        ratio = _bounded(seconds / predicted)
        if calibration is not None:
            calibration = msgspec.structs.replace(calibration, correction=calibration.correction * ratio)
        return msgspec.structs.replace(facts, training_macs_per_second=speed / ratio, calibration=calibration)

    def _descend(self, member: Member, why: str) -> Member:
        given = member.plan
        depth = given.depth - 1
        memory_saving = given.memory_saving
        if self._scheme.depth == "auto" and "allocation" in self._scheme.techniques:
            memory_saving = msgspec.structs.replace(
                memory_saving, allocator="exact"
            )  # memory is short here, whatever was predicted
        training = msgspec.structs.replace(self._training, memory=memory_saving)
        needed = device_memory(self._blueprint, depth, training, member.facts.calibration)
        words = f"depth {depth} of {self._blueprint.full_depth} {why}"
        return self._change(
            member,
            msgspec.structs.replace(
                given, depth=depth, memory_bytes=needed, explanation=words, memory_saving=memory_saving, ceiling=depth
            ),
        )

    def _change(self, member: Member, chosen: Plan) -> Member:
        member.plan = chosen
        member.ready = False
        member.slow_rounds = member.good_rounds = 0
        self._plans[member.device] = (chosen, _basis(member.facts))
        self._remember(member)
        return member

    def _still_fits(self, known: Plan, facts: DeviceFacts) -> bool:
        if known.depth == 0:
            return False
        if self._scheme.depth != "auto":
            return True
        training = msgspec.structs.replace(self._training, memory=known.memory_saving)
        down, up = transfer_seconds(self._blueprint, known.depth, known.encoding, facts.link_bytes_per_second)
        link = down + known.lpr * up
        total = link + training_seconds(self._blueprint, known.depth, training, facts)
        # Measured speeds differ from start to start: a plan stays unless it is the link that makes it hopeless.
        in_time = total <= self._deadline or link < LINK_SHARE * total
        return in_time and known.memory_bytes <= facts.training_memory

    def _remember(self, member: Member) -> None:
        # Idle devices report again and again, and nearly always there is nothing new.
        row = (member.plan, _basis(member.facts), member.ready)
        if self._journaled.get(member.device) != row:
            self._journal.put_device(member.device, row[0], row[1], ready=row[2])
            self._journaled[member.device] = row


def _bounded(ratio: float) -> float:
    return min(max(ratio, LEAST_RATIO), 1 / LEAST_RATIO)


def _basis(facts: DeviceFacts) -> str:
    """What a plan rests on that does not change from one start of an agent to the next."""
    lasting = (facts.profile, facts.processor, facts.samples, facts.threads, facts.memory_total)
    return hashlib.sha256(msgspec.json.encode(lasting)).hexdigest()
