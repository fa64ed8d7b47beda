"""Who is in the fleet, what each device can bear, and what it was given.

A device's plan is made when it first reports and stays for the run: measured speeds differ from one start
to the next, and a fleet that is replanned at every hiccup cannot be reproduced. It is replanned when the
device itself changes: another profile, another amount of data, or less memory than its plan needs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.devices import DeviceFacts
from fedlp_edge.core.planner import Plan, plan
from fedlp_edge.core.prediction import training_memory
from fedlp_edge.core.rounds import Participant
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings
from fedlp_edge.storage.journal import Journal


@dataclass
class Member:
    """One device of the fleet.

    Attributes:
        session: of the agent's present life.
        ready: whether it holds its submodel and is subscribed.
    """

    device: str
    session: str
    facts: DeviceFacts
    plan: Plan
    ready: bool = False

    def participant(self, *, uniform: bool) -> Participant:
        """Its place in a round that opens now."""
        samples = max(1, self.facts.samples)
        weight = 1 if uniform else samples
        given = self.plan
        return Participant(
            self.device, given.depth, given.lpr, samples, weight, encoding=given.encoding, thrift=given.thrift
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
            chosen = plan(facts, self._blueprint, self._scheme, self._training, self._deadline)
            self._plans[device] = (chosen, basis)
        before = self.members.get(device)
        same_life = before is not None and before.session == session and before.plan == chosen
        member = Member(device, session, facts, chosen, ready=bool(before and before.ready and same_life))
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
        """Gives a device that ran out of memory one depth less; None if there is none left."""
        member = self.members.get(device)
        if member is None or member.plan.depth <= 1:
            return None
        depth = member.plan.depth - 1
        memory = training_memory(self._blueprint.costs[depth - 1], self._training)
        words = f"depth {depth} of {self._blueprint.full_depth} after depth {depth + 1} ran out of memory: {reason}"
        member.plan = msgspec.structs.replace(member.plan, depth=depth, memory_bytes=memory, explanation=words)
        member.ready = False
        self._plans[device] = (member.plan, _basis(member.facts))
        self._remember(member)
        return member

    def _still_fits(self, known: Plan, facts: DeviceFacts) -> bool:
        if known.depth == 0:
            return False
        return self._scheme.depth != "auto" or known.memory_bytes <= facts.training_memory

    def _remember(self, member: Member) -> None:
        # Idle devices report again and again, and nearly always there is nothing new.
        row = (member.plan, _basis(member.facts), member.ready)
        if self._journaled.get(member.device) != row:
            self._journal.put_device(member.device, row[0], row[1], ready=row[2])
            self._journaled[member.device] = row


def _basis(facts: DeviceFacts) -> str:
    """What a plan rests on that does not change from one start of an agent to the next."""
    lasting = (facts.profile, facts.processor, facts.samples, facts.threads, facts.memory_total)
    return hashlib.sha256(msgspec.json.encode(lasting)).hexdigest()
