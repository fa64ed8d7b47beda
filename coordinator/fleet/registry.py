"""Keeps who is in the fleet, what each device reported, and the plan that it was given.

The registry keeps members and journals their plans; what a report or a round means for a plan is decided by
``core/planning/adaptation.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fedlp_edge.core.planning.adaptation import AdaptivePlanner, RoundOutcome, TrackRecord, planning_basis
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.ready_devices import MAX_SAMPLES
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.storage.journal import Journal


@dataclass
class Member:
    """One device of the fleet that is online.

    Attributes:
        session: Session id of the agent's present life.
        ready: Whether it holds its submodel and is subscribed.
        record: Track record of the latest rounds under this plan.
    """

    device: str
    session: str
    facts: DeviceFacts
    plan: Plan
    ready: bool = False
    record: TrackRecord = field(default_factory=TrackRecord)

    def member(self, *, uniform: bool) -> CohortMember:
        """Returns the device as a cohort member of a round that opens now."""
        samples = min(max(1, self.facts.samples), MAX_SAMPLES)
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
    """The members that are online, and the plans of all devices that ever were.

    Args:
        planner: Decides what a report or a round means for a plan.
        journal: Remembers plans between starts.
    """

    def __init__(self, planner: AdaptivePlanner, journal: Journal) -> None:
        self._planner = planner
        self._journal = journal
        self._plans = journal.plans()
        self._journaled: dict[str, tuple[Plan, str, bool]] = {}
        self.members: dict[str, Member] = {}

    def arrive(self, device: str, session: str, facts: DeviceFacts) -> Member:
        """Takes a device's report and returns the member, whose plan has depth 0 if the device can bear nothing."""
        basis = planning_basis(facts)
        known, known_basis = self._plans.get(device, (None, basis))
        before = self.members.get(device)
        earlier = before.facts if before is not None and before.session == session else None
        chosen = self._planner.after_report(facts, known, changed=basis != known_basis, before=earlier)
        self._plans[device] = (chosen, basis)
        same_life = before is not None and before.session == session and before.plan == chosen
        member = Member(device, session, facts, chosen, ready=bool(before and before.ready and same_life))
        if before is not None and same_life:
            member.record = before.record
        self.members[device] = member
        self._remember(member)
        return member

    def settle_broadcast(self, encoding: BroadcastEncoding) -> None:
        """From here on the model travels to all devices in this encoding, which new plans count on."""
        self._planner = self._planner.with_broadcast(encoding)

    def ready(self, device: str, session: str, depth: int) -> Member | None:
        """Marks a device ready; returns None if the message is of an earlier session or plan."""
        member = self.members.get(device)
        if member is None or member.session != session or member.plan.depth != depth:
            return None
        member.ready = True
        self._remember(member)
        return member

    def leave(self, device: str, session: str) -> Member | None:
        """Takes a device out; returns None if its session has ended already."""
        member = self.members.get(device)
        if member is None or member.session != session:
            return None
        member.ready = False
        self._remember(member)
        return self.members.pop(device)

    def memory_failed(self, device: str, reason: str) -> Member | None:
        """Notes that a device ran out of memory; returns the member if its plan changed, for a new assignment."""
        member = self.members.get(device)
        chosen = self._planner.after_memory_failure(member.plan, member.facts, reason) if member else None
        return self._change(member, chosen) if member and chosen else None

    def trained(self, device: str, outcome: RoundOutcome) -> Member | None:
        """Notes how a device trained; returns the member if its plan changed, for a new assignment."""
        member = self.members.get(device)
        if member is None:
            return None
        chosen, member.record = self._planner.after_round(member.plan, member.facts, member.record, outcome)
        return self._change(member, chosen) if chosen else None

    def _change(self, member: Member, chosen: Plan) -> Member:
        member.plan = chosen
        member.ready = False
        member.record = TrackRecord()
        self._plans[member.device] = (chosen, planning_basis(member.facts))
        self._remember(member)
        return member

    def _remember(self, member: Member) -> None:
        # Idle devices report again and again, and nearly always there is nothing new.
        row = (member.plan, planning_basis(member.facts), member.ready)
        if self._journaled.get(member.device) != row:
            self._journal.put_device(member.device, row[0], row[1], ready=row[2])
            self._journaled[member.device] = row
