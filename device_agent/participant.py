"""The device's side of the protocol as one pure state machine: events and the time go in, effects come out.

Routes each event to the part that knows: ``echo`` (the link), ``presence`` (being there), ``enrolment`` (assignment to
Ready), ``roundwork`` (task to update), ``deliveries`` (offer to receipt), ``homecoming`` (the final model).
"""

from __future__ import annotations

import contextlib
import math

import msgspec

from device_agent.arrivals import ArrivalCheck
from device_agent.deliveries import Deliveries
from device_agent.downloads import Downloads
from device_agent.echo import LinkEcho, slower
from device_agent.effects import (
    BuildFailed,
    ChunkDelivered,
    ChunkRefused,
    DeviceMeasured,
    Effects,
    Event,
    Identity,
    InstallFailed,
    Leave,
    ModelBuilt,
    ModelInstalled,
    Note,
    NothingToExport,
    Publish,
    RoundTrained,
    Stop,
    Tick,
    TrainingFailed,
)
from device_agent.enrolment import Enrolment
from device_agent.homecoming import Homecoming
from device_agent.link_estimate import LinkEstimate, Shortfalls
from device_agent.presence import Presence
from device_agent.reminders import Reminders
from device_agent.roundwork import RoundWork
from device_agent.search import CoordinatorSearch
from fedlp_edge.core.devices import DeviceFacts
from fedlp_edge.errors import BrokerError, PeerError
from fedlp_edge.reporting.units import format_bytes
from fedlp_edge.transport.base import (
    Arriving,
    BrokerLimits,
    Connected,
    Delivered,
    Disconnected,
    Received,
    Refused,
    Subscribed,
    TransportEvent,
)
from fedlp_edge.wire.chunks import Chunk, chunk_bytes_for
from fedlp_edge.wire.messages import (
    Announcement,
    Assignment,
    Claim,
    Farewell,
    FromCoordinator,
    Grant,
    Progress,
    Receipt,
    Refusal,
    Status,
    Task,
    decoder,
)

MAX_CONTROL_BYTES = 4 << 20
"""Of a control message; a task's manifest takes some 150 bytes a unit, a grant's ranges 20 each."""

_decode_down = decoder(FromCoordinator, MAX_CONTROL_BYTES)
_decode_status = decoder(Status, MAX_CONTROL_BYTES)
_decode_announcement = decoder(Announcement | Claim, MAX_CONTROL_BYTES)


class Participant:
    """One device in one fleet.

    Args:
        identity: of the agent.
        units: downloads of the model's units.
        models: downloads of ONNX files, and of final layers.
        deliveries: with the updates that an earlier life left.
        echo: measures the link before the first report.
        arrivals: knows whether what was sent to this device may still be on its way.
        allow_models: ``module:callable`` models whose code the owner trusts.
        can_export: whether what makes ONNX files is installed here.
        once: stop when the run is over.
    """

    def __init__(
        self,
        identity: Identity,
        units: Downloads,
        models: Downloads,
        deliveries: Deliveries,
        echo: LinkEcho,
        arrivals: ArrivalCheck,
        *,
        allow_models: frozenset[str] = frozenset(),
        can_export: bool = True,
        once: bool = False,
    ) -> None:
        self._identity = identity
        self._units = units
        self._models = models
        self._presence = Presence(identity)
        self._enrolment = Enrolment(identity, allow_models)
        self._deliveries = deliveries
        self._echo = echo
        self._arrivals = arrivals
        self._shortfalls = Shortfalls()
        self._unreported: DeviceFacts | None = None
        self._work = RoundWork(identity, units, deliveries)
        self._homecoming = Homecoming(identity, models, can_export=can_export, once=once)
        self._reminders = Reminders(identity)
        self._search = CoordinatorSearch(identity)

    def start(self) -> Effects:
        """What is to be done before the first event."""
        return self._presence.start()

    def deadline(self) -> float | None:
        """When the next Tick is due at the latest; None if only events matter."""
        if not self._presence.connected:
            return None
        times = [
            part.deadline() for part in (self._echo, self._work, self._deliveries, self._homecoming, self._arrivals)
        ]
        if self._idle:
            times.append(self._reminders.deadline())
        times.append(self._search.deadline())
        return min((time for time in times if time is not None), default=None)

    def handle(self, event: Event, now: float) -> Effects:
        """Takes one event and returns what is to be done, in order.

        Args:
            event: what happened.
            now: seconds on any monotonic clock.
        """
        self._presence.tick(now)
        effects = self._dispatch(event, now)
        if self._presence.connected:
            effects += self._echo.work(now)
        effects += self._report_device(now)
        if self._presence.connected:
            effects += [*self._arrivals.work(now), *self._search.work(now)]
            effects += [*self._work.work(now), *self._deliveries.work(now), *self._homecoming.work(now)]
            effects += self._report_link()
            effects += self._arrivals.work(now)  # what the others have just found that they want to know
            if self._idle and self._reminders.due(now):
                effects += [*self._presence.announce(), *self._enrolment.ready()]
        return effects

    @property
    def _idle(self) -> bool:
        """Whether only a word of the coordinator can give this device something to do."""
        return self.free and not self._enrolment.refused

    @property
    def free(self) -> bool:
        """Whether this device has neither a task nor an update or a model on its way."""
        return self._work.idle and self._deliveries.idle and self._homecoming.idle

    def _dispatch(self, event: Event, now: float) -> Effects:
        effects: Effects = []
        match event:
            case DeviceMeasured(facts):
                self._unreported = facts
            case ModelBuilt():
                effects = self._enrolment.built(event)
                self._units.allow_early(self._enrolment.early_allowance())
            case BuildFailed():
                effects = self._enrolment.build_failed(event)
            case RoundTrained():
                effects = self._work.trained(event, now)
            case TrainingFailed():
                effects = self._work.failed(event)
            case ChunkDelivered(update, index) | ChunkRefused(update, index):
                delivered = isinstance(event, ChunkDelivered)
                settle = self._deliveries.delivered if delivered else self._deliveries.refused
                effects = settle(update, index, now)
            case ModelInstalled():
                effects = self._homecoming.installed(event)
            case InstallFailed():
                effects = self._homecoming.install_failed(event)
            case NothingToExport():
                effects = self._homecoming.nothing_to_export(event)
            case Leave():
                effects = self._presence.leave()
            case Tick():
                pass
            case _:
                effects = self._transport(event, now)
        return effects

    def _transport(self, event: TransportEvent, now: float) -> Effects:
        effects: Effects = []
        match event:
            case Connected(limits):
                self._presence.connected = True
                self._echo.connected(limits)
                self._deliveries.limit(_payload_bytes(limits))
                self._search.connected(now)
                self._units.nudge(now)
                note = Note(f"connected (MQTT {limits.protocol})")
                effects = [note, *self._presence.announce(), *self._enrolment.ready()]
            case Disconnected(reason):
                self._presence.connected = False
                note = Note(f"disconnected: {reason}; trying again, nothing is lost", warning=True)
                self._arrivals.interrupted()
                effects = [note, *self._echo.interrupted(), *self._search.disconnected()]
            case Refused(topic) if topic in self._search.filters:
                pass
            case Refused(topic, reason) if topic == self._echo.topic:
                self._arrivals.judged(works=False)
                effects = self._echo.refused(reason)
            case Refused(topic, reason, too_long=True):
                effects = [Note(f"the broker refuses a message on {topic}: {reason}", warning=True)]
            case Refused(topic, reason, token):
                text = f"the broker refuses {topic}: {reason}; check its access rules for this device's login"
                # Without a subscription nothing works; a publish may be one of many.
                effects = [Stop(text)] if token is None else [Note(text, warning=True)]
            case Subscribed(topic):
                self._arrivals.subscribed(topic)
                effects = [*self._echo.subscribed(topic, now), *self._enrolment.subscribed(topic)]
            case Received():
                try:
                    effects = self._receive(event, now)
                except PeerError as error:
                    effects = [Note(f"{event.topic}: {error}", warning=True)]
            case Arriving():
                self._arrivals.heard(now)
                self._units.still_coming(now)
                self._models.still_coming(now)
            case Delivered():
                pass  # The service knows whose token it is and says ChunkDelivered.
        return effects

    def _receive(self, event: Received, now: float) -> Effects:
        self._arrivals.heard(now)
        topics = self._identity.topics
        branch, leaf = topics.parse(event.topic)
        if branch in {"model", "repeat"}:
            unit, chunk = leaf if branch == "model" else None, Chunk.parse(event.payload)
            return [*self._report(unit, chunk), *self._chunk(unit, chunk, len(event.payload), now)]
        if branch == "echo":
            self._arrivals.received(event.payload)
            return self._echo.received(event.payload, now)
        if branch == "down":
            return self._down(_decode_down(event.payload), now)
        if branch == "device" and event.payload:
            message = _decode_status(event.payload)
            return self._presence.on_status(message, event.retained) if isinstance(message, Status) else []
        if event.topic == topics.coordinator and event.payload:
            message = _decode_announcement(event.payload)
            return self._announced(message, now) if isinstance(message, Announcement) else []
        return [] if branch else self._search.strange(event.topic)

    def _chunk(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> Effects:
        if self._models.wants(chunk):
            try:
                self._models.receive(unit, chunk, nbytes, now)
            except PeerError as error:
                return self._homecoming.rejected(error)
            return self._homecoming.received(now)
        try:
            self._units.receive(unit, chunk, nbytes, now)
        except PeerError as error:
            return self._work.rejected(error)
        return self._work.progress()

    def _report_device(self, now: float) -> Effects:
        """Measures the link once the worker has measured the rest (each would disturb the other), and reports both."""
        if self._unreported is None:
            return []
        if not self._echo.settled:
            return self._echo.begin(now)
        facts, self._unreported = self._unreported, None
        rate = slower(facts.link_bytes_per_second, self._echo.rate)
        self._know_link(rate)
        return self._presence.measured(msgspec.structs.replace(facts, link_bytes_per_second=rate))

    def _report_link(self) -> Effects:
        """Says what rounds that could not be done in time have shown of the link, so that the next is planned by it."""
        shown = [rate for rate in (self._work.shown_rate, self._deliveries.shown_rate) if rate is not None]
        self._work.shown_rate = self._deliveries.shown_rate = None
        rate = self._shortfalls.missed(min(shown)) if shown else None
        if rate is None or not self._work.link.falls_short(rate):
            return []
        self._know_link(rate)
        words = f"the link has carried {format_bytes(rate)}/s, too little for the round; the coordinator is told"
        return [Note(words, warning=True), *self._presence.linked(rate)]

    def _know_link(self, rate: float | None) -> None:
        if self._echo.works is not None:
            self._arrivals.judged(works=self._echo.works)
            rate = math.inf if rate is None and self._echo.works else rate
        estimate = LinkEstimate(rate, self._echo.latency)
        self._units.link = self._models.link = self._deliveries.link = self._work.link = estimate

    def _report(self, unit: str | None, chunk: Chunk) -> Effects:
        """The answer to a chunk of the broadcast that asks how this device stands."""
        assignment = self._enrolment.assignment
        if unit is None or not chunk.report or assignment is None:
            return []
        device = self._identity.device
        message = Progress(run=assignment.run, device=device, unit=unit, blob=chunk.prefix.hex(), index=chunk.index)
        return [Publish(self._identity.topics.of("up", device), message)]

    def _down(self, message: object, now: float) -> Effects:
        if getattr(message, "device", None) != self._identity.device:
            return [Note("a message for another device came on this one's topic and is ignored", warning=True)]
        effects: Effects = []
        self._reminders.heard(now)
        match message:
            case Assignment():
                effects = self._enrolment.assign(message)
                self._units.allow_early(self._enrolment.early_allowance())
            case Refusal():
                effects = self._enrolment.turned_away(message)
            case Task():
                effects = self._task(message, now)
            case Grant():
                effects = self._deliveries.grant(message, now)
            case Receipt():
                effects = self._deliveries.receipt(message, now)
                if message.state == "accepted":
                    self._shortfalls.done()
            case Farewell():
                effects = self._farewell(message, now)
        return effects

    def _farewell(self, message: Farewell, now: float) -> Effects:
        place = self._enrolment.place
        self._work.end(now)
        self._units.allow_early({})
        effects = [*self._deliveries.drop_run(message.run), *self._enrolment.end()]
        return [*effects, *self._homecoming.start(message, place, now)]

    def _task(self, task: Task, now: float) -> Effects:
        assignment, blueprint = self._enrolment.assignment, self._enrolment.blueprint
        if blueprint is None or assignment is None or assignment.run != task.run:
            # The coordinator takes this device for another life of itself; the status sets that right.
            return [Note(f"task of round {task.round} without an assignment"), *self._presence.announce()]
        self._homecoming.cancel()
        effects: Effects = []
        if self._work.hears_nobody:  # its announcement got lost on the way, but who sends a task is there
            self._work.online(task.run, now)
            effects = self._deliveries.online(task.run, now)
        coordinator = self._presence.coordinator
        return [*effects, *self._work.assign(task, blueprint, coordinator.session if coordinator else None, now)]

    def _announced(self, message: Announcement, now: float) -> Effects:
        came, effects = self._presence.on_announcement(message)
        if came:
            self._reminders.heard(now)
            self._work.online(message.run, now)
            self._homecoming.online(now)
            effects += self._search.found()
            return [*effects, *self._deliveries.online(message.run, now)]
        if not message.online:
            self._reminders.silent()
            self._work.offline()
            self._homecoming.offline(now)
            self._deliveries.offline()
            assignment = self._enrolment.assignment
            if message.state == "finished" and assignment is not None and assignment.run == message.run:
                # The farewell to this device got lost, and nobody is there any more to repeat it.
                lost = Farewell(run=message.run, device=self._identity.device, rounds=0)
                effects += self._farewell(lost, now)
        return effects


def _payload_bytes(limits: BrokerLimits) -> int | None:
    """Of a chunk in a packet of the broker; None if it takes any, or too few for an update to be of use."""
    with contextlib.suppress(BrokerError):
        return None if limits.max_packet_bytes is None else chunk_bytes_for(limits, limits.max_packet_bytes)
    return None
