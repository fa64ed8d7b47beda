"""Assigns devices what they train as they come, fail, change and go.

The registry knows what each one is and was given; here its answers become assignments, events for people, and
news for the open round.
"""

from __future__ import annotations

import logging
import time

from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.fleet.known_devices import KnownDevices, PlanChanges
from coordinator.fleet.registry import Member, Registry
from coordinator.fleet.unanswered import UnansweredAssignments
from coordinator.rounds.round_controller import RoundController
from coordinator.run_context import RunContext
from fedlp_edge.core.device_data import listed, missing_classes, unlike_scale
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.rounds import events as round_events
from fedlp_edge.core.rounds.fitness import DeviceFault
from fedlp_edge.reporting import events
from fedlp_edge.wire.messages import (
    MAX_REASON,
    PROTOCOL,
    Assignment,
    AssignmentRefused,
    Failure,
    Ready,
    Registered,
    Status,
)
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")

_SHOWN_COLUMNS = 3


class Membership:
    """The devices of one run, as the coordinator talks with them.

    Args:
        context: Context of the run.
        classes: The model that is learned, and what its classes are called.
        registry: Registry of the run.
        plan_changes: Devices whose plan their updates have changed.
        known_devices: Kept up to date with every report.
        rounds: Controller that takes events of devices into the open round.
    """

    def __init__(
        self,
        context: RunContext,
        classes: FleetClasses,
        registry: Registry,
        plan_changes: PlanChanges,
        known_devices: KnownDevices,
        rounds: RoundController,
    ) -> None:
        self._context = context
        self._classes = classes
        self._registry = registry
        self._plan_changes = plan_changes
        self._profiles = known_devices.profiles
        self._bases = known_devices.bases
        self._data = known_devices.data
        self._fitness = rounds.fitness
        self._step = rounds.step
        self._now = rounds.now
        self._refused: set[str] = set()
        self._foreign: dict[str, int] = {}
        self._unanswered = UnansweredAssignments(Topics(context.config.fleet))
        self._served: dict[str, ServingReport] = {}
        self._unheard: set[str] = set()

    def all(self) -> list[Member]:
        """Returns the members that are online."""
        return list(self._registry.members.values())

    def heard_of(self) -> list[Member]:
        """Returns the members without those that do not answer and that the broker has kept a status of, no more.

        It keeps the status of a device for ever whose end it missed, as one does that was restored from an old backup
        or was behind a bridge. Whoever is there answers, or says something else, within seconds.
        """
        return [member for member in self.all() if not self._is_only_kept(member.device)]

    def knows(self, device: str) -> bool:
        """Returns whether a device is online."""
        return device in self._registry.members

    def without_depth(self, device: str) -> Member | None:
        """Returns a device that is online and can bear no training, which never reports Ready; None if it can."""
        member = self._registry.members.get(device)
        return member if member is not None and member.plan.depth == 0 else None

    def reported(self, status: Status, *, kept: bool = False) -> None:
        """Takes the status of a device that is online, and assigns it a depth if that is due.

        Args:
            status: Status of the device.
            kept: Whether the broker has kept it for whoever subscribes.
        """
        device, facts = status.device, status.facts
        if facts is None:
            return
        renewed = self._note(status, facts)
        before = self._registry.members.get(device)
        if not kept or before is None:
            self._unheard = self._unheard | {device} if kept else self._unheard - {device}
        member = self._registry.arrive(device, status.session, facts)
        replanned = before is not None and before.plan != member.plan
        if replanned or (before is not None and before.ready and not member.ready):
            self._step(round_events.DeviceGone(device))  # until it holds what it is told to hold now
        self._step(round_events.DeviceReported(device))
        if renewed:
            self._step(round_events.DeviceChanged(device))
        if self._classes.reported(device, facts.data, facts.samples) and self._classes.settled:
            for other in self.all():
                if other is not member:  # which is told below
                    self._place(other, anew=True)
        if before is None or before.session != member.session or renewed or replanned:
            self._introduce(member)
        self._place(member)
        if member.ready and renewed:
            self.join(member)  # with what it has now

    def _note(self, status: Status, facts: DeviceFacts) -> bool:
        """Keeps what a device tells of itself; returns whether it has counted or measured anew what it told before."""
        device, basis = status.device, f"{status.session} {status.revision}"
        self._profiles[device] = facts.profile
        if status.serving is not None and status.serving != self._served.get(device):
            self._served[device] = status.serving
            self._context.emit(events.DeviceServing(time=time.time(), device=device, report=status.serving))
        if facts.data is not None and facts.data != self._data.get(device):
            self._data[device] = facts.data
            self._context.journal.put_data_facts(device, facts.data)
        renewed = self._bases.get(device) not in (None, basis)
        self._bases[device] = basis
        return renewed

    def turned_away(self, status: Status) -> None:
        """Reports a device whose agent speaks another protocol, once for each that it speaks."""
        if self._foreign.get(status.device) == status.protocol:
            return  # a service starts such an agent again and again
        self._foreign[status.device] = status.protocol
        version = f"protocol {status.protocol} (version {status.version or 'unknown'})"
        why = f"its agent speaks {version}, this coordinator protocol {PROTOCOL}: update the older one"
        log.warning("%s cannot take part: %s", status.device, why)
        self._context.emit(events.DeviceUnfit(time=time.time(), device=status.device, explanation=why))

    def tick(self) -> None:
        """Tells everybody their class numbers once the fleet has agreed on them, and looks for who never answers."""
        self._unanswered.tick(self._now(), self._unheard)
        if self._classes.tick():
            for member in self.all():
                if self._units(member):  # which shows only now that others have reported
                    self._introduce(member)
                self._place(member)

    def left(self, status: Status) -> bool:
        """Takes a device out that went offline; returns whether it was in the fleet with this session."""
        if not self._registry.leave(status.device, status.session):
            if status.ended and status.device not in self._registry.members:
                # Of a round that an earlier life of this coordinator opened.
                self._step(round_events.DeviceGone(status.device, ended=True))
            return False
        self._heard(status.device)
        log.info("%s left", status.device)
        self._context.emit(events.DeviceLeft(time=time.time(), device=status.device))
        self._step(round_events.DeviceGone(status.device, ended=status.ended))
        return True

    def ready(self, message: Ready) -> Member | None:
        """Notes that a device holds its submodel; returns None if it holds another one than it was assigned."""
        self._heard(message.device)
        return self._registry.ready(message.device, message.session, message.depth)

    def join(self, member: Member) -> None:
        """Lets a device that is ready take part in rounds."""
        self._step(round_events.DeviceReady(member.member(uniform=self._context.config.scheme.weights == "uniform")))

    def failed(self, failure: Failure) -> DeviceFault | None:
        """Takes a device's failure; a device that lacked memory is assigned less.

        Returns:
            What that says about its next task; None if that is another one.
        """
        self._heard(failure.device)
        if failure.kind == "memory" and (member := self._registry.memory_failed(failure.device, failure.reason)):
            self._reassign(member)
            return None
        return DeviceFault(failure.kind)

    def is_present(self, failure: Failure) -> bool:
        """Returns whether a failure comes from the present session of a device of this fleet."""
        member = self._registry.members.get(failure.device)
        return member is not None and member.session == failure.session

    def reassign_changed(self) -> None:
        """Assigns anew what experience has changed, once the round has taken note of the update that showed it."""
        for member in self._plan_changes.take():
            self._reassign(member)

    def _is_only_kept(self, device: str) -> bool:
        return device in self._unheard and self._unanswered.awaits(device)

    def _heard(self, device: str) -> None:
        self._unanswered.answered(device)
        self._unheard.discard(device)

    def _place(self, member: Member, *, anew: bool = False) -> None:
        """Tells a device what to hold, or why it cannot take part, once the fleet knows its classes.

        Args:
            member: Member of the fleet; it may have got the same message before.
            anew: Also if it is ready, since what it was told has changed.
        """
        reason, device = self._classes.refusal(member.facts.data), member.device
        if reason or not member.plan.depth:
            self._refuse(member, reason or member.plan.explanation)
            return
        if device in self._refused:
            self._refused.remove(device)
            self._step(round_events.DeviceChanged(device))
        if not self._classes.settled:
            # Without an answer, a device must think that its reports are lost.
            reason = self._classes.waiting_for
            self._context.messenger.tell(Registered(run=self._context.run, device=device, reason=reason))
        elif (anew or not member.ready) and not self._fitness(device).lasting:
            self._assign(member)

    def _refuse(self, member: Member, reason: str) -> None:
        device = member.device
        self._context.messenger.tell(
            AssignmentRefused(run=self._context.run, device=device, reason=reason[:MAX_REASON])
        )
        if not self._fitness(device).lasting:
            self._refused.add(device)
            fault = DeviceFault.DATA if member.plan.depth else DeviceFault.CAPACITY
            self._step(round_events.DeviceUnable(device, fault, reason))

    def _introduce(self, member: Member) -> None:
        plan = member.plan
        if plan.depth == 0 or self._classes.refusal(member.facts.data):
            return
        if member.facts.data is not None and (missing := missing_classes(member.facts.data, self._classes.names)):
            log.info("%s has no samples of %s", member.device, listed(missing))
        explanation = plan.explanation + self._units(member)
        log.info("%s (%s) gets %s", member.device, member.facts.profile, explanation)
        self._context.emit(
            events.DeviceJoined(
                time=time.time(),
                device=member.device,
                profile=member.facts.profile,
                samples=member.facts.samples,
                depth=plan.depth,
                lpr=plan.lpr,
                explanation=explanation,
            )
        )

    def _assign(self, member: Member) -> None:
        assignment = Assignment(
            run=self._context.run,
            device=member.device,
            model=self._classes.model,
            blueprint_digest=self._context.blueprint.digest,
            depth=member.plan.depth,
            explanation=member.plan.explanation + self._units(member),
        )
        self._context.messenger.tell(assignment)
        self._unanswered.told(member.session, assignment, self._now())

    def _units(self, member: Member) -> str:
        """Returns what to say of values that look as if they had another unit or scale on a device than elsewhere."""
        data = member.facts.data
        if data is None:
            return ""
        scale = unlike_scale(data, (other for device, other in self._data.items() if device != member.device))
        said = f"; {scale}" if scale else ""
        if found := self._classes.unlike_columns(member.device, data):
            more = f" and {len(found) - _SHOWN_COLUMNS} more" if len(found) > _SHOWN_COLUMNS else ""
            said += f"; in another unit than elsewhere? {', '.join(map(str, found[:_SHOWN_COLUMNS]))}{more}"
        return said

    def _reassign(self, member: Member) -> None:
        self._step(round_events.DeviceGone(member.device))
        self._step(round_events.DeviceReported(member.device))
        self._introduce(member)
        self._place(member)
