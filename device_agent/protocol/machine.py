"""Implements the device's side of the protocol as one state machine: events and the time go in, effects come out.

Routes each event to the part that knows: ``link`` (how fast the link is), ``presence`` (status and announcements),
``assignment`` (from the assignment to Ready), ``round_task`` (from the task to the update), ``uploads`` (from the offer
to the receipt), ``final_model`` (the ONNX file at the end), ``release_install`` (models that are rolled out).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from device_agent.limits import LIMITS
from device_agent.protocol.assignment import AssignmentHandler
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.coordinator_search import CoordinatorSearch
from device_agent.protocol.coordinator_wait import CoordinatorWait
from device_agent.protocol.downloads import BlobStore, Check, Downloads
from device_agent.protocol.events import (
    BuildFailed,
    ChunkDelivered,
    ChunkRefused,
    DeviceMeasured,
    Effects,
    Event,
    FilesWanted,
    Identity,
    InstallationReported,
    InstallFailed,
    Leave,
    Log,
    MeasureAgain,
    ModelBuilt,
    ModelChecked,
    ModelInstalled,
    NothingToExport,
    Publish,
    RoundTrained,
    SendProbe,
    ServingReported,
    Stop,
    Tick,
    TrainingFailed,
)
from device_agent.protocol.final_model import FinalModelFetch
from device_agent.protocol.heartbeat import Heartbeat, Remeasurement
from device_agent.protocol.link.delivery_check import DeliveryCheck
from device_agent.protocol.link.link_estimate import LinkState
from device_agent.protocol.link.link_monitor import LinkMonitor
from device_agent.protocol.presence import Presence
from device_agent.protocol.release_install import InstallationFacts, ReleaseInstall, failure_of
from device_agent.protocol.round_task import RoundTask
from device_agent.protocol.update import Update
from device_agent.protocol.uploads import Uploads
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.rollout.rollout_names import is_rollout
from fedlp_edge.errors import BrokerError, PeerError
from fedlp_edge.transport.base import (
    BrokerLimits,
    Connected,
    Delivered,
    Disconnected,
    MessageArriving,
    Received,
    Refused,
    Subscribed,
    TransportEvent,
)
from fedlp_edge.transport.retry_log import RefusalLog
from fedlp_edge.wire.chunks import Chunk, chunk_bytes_for
from fedlp_edge.wire.messages import (
    PROTOCOL,
    Announcement,
    Assignment,
    AssignmentRefused,
    Claim,
    Decoder,
    FromCoordinator,
    Grant,
    Install,
    Progress,
    Receipt,
    Registered,
    RunEnded,
    Status,
    Task,
)

_LIMITS = LIMITS.messages


_decode_down = Decoder[FromCoordinator](FromCoordinator, _LIMITS.control_bytes)
_decode_status = Decoder[Status](Status, _LIMITS.control_bytes)
_decode_announcement = Decoder[Announcement | Claim](Announcement | Claim, _LIMITS.control_bytes)


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """The choices of a device's owner about its part in the protocol.

    Attributes:
        allow_models: ``module:callable`` models whose code the owner trusts.
        can_export: Whether what makes ONNX files is installed here.
        once: Whether the agent ends when the run is over.
        wait_seconds: Seconds without a coordinator after which the agent ends; None for never.
        report_metrics: Whether the coordinator is told how well the model does on held-out samples.
        signed_only: Whether nothing is installed that is not signed, such as the final model of a run.
        measure_link: Whether echoes measure the link before the first report.
        use_echoes: Whether echoes tell what is lost from what is late; otherwise silence alone does.
        link_bytes_per_second: Uploads stay below this rate; None for as fast as the broker takes them.
    """

    allow_models: frozenset[str] = frozenset()
    can_export: bool = True
    once: bool = False
    wait_seconds: float | None = None
    report_metrics: bool = True
    signed_only: bool = False
    measure_link: bool = True
    use_echoes: bool = True
    link_bytes_per_second: float | None = None


@dataclass(frozen=True)
class DeviceStores:
    """The stores of a device's downloads, and the functions that admit them.

    Attributes:
        units: Store of the model's units.
        check_unit: Admits a unit.
        models: Store of ONNX files, and of final layers.
        check_model: Admits one of these.
        releases: Store of the files of releases.
        installation: What is known of installations.
    """

    units: BlobStore
    check_unit: Check
    models: BlobStore
    check_model: Check
    releases: BlobStore
    installation: InstallationFacts


class DeviceProtocol:
    """The state machine of one device in one fleet.

    Args:
        identity: Identity of the agent.
        stores: Stores of what is downloaded.
        updates: Left in the outbox by an earlier life.
        draw: Function that returns a number of random bytes.
        options: Options, see ``ProtocolOptions``.
    """

    def __init__(
        self,
        identity: Identity,
        stores: DeviceStores,
        updates: Iterable[Update],
        draw: Callable[[int], bytes],
        options: ProtocolOptions,
    ) -> None:
        coordinator = CoordinatorPresence()
        self._identity = identity
        self._once = options.once
        self._coordinator = coordinator
        self._presence = Presence(identity, coordinator)
        link = LinkState()
        self._link = LinkMonitor(
            identity,
            draw,
            link,
            self._presence.linked,
            measure=options.measure_link,
            use_echoes=options.use_echoes,
        )
        nothing_before = self._link.nothing_before
        self._units = Downloads(stores.units, stores.check_unit, nothing_before, link)
        self._models = Downloads(stores.models, stores.check_model, nothing_before, link)
        self._files = Downloads(stores.releases, lambda _version, _blob: None, nothing_before, link)
        self._assignment = AssignmentHandler(identity, options.allow_models)
        self._uploads = Uploads(identity, coordinator, updates, options.link_bytes_per_second, link)
        self._refusals = RefusalLog("this device's")
        self._unreported: DeviceFacts | None = None
        self._deliveries = DeliveryCheck(identity)
        self._round_task = RoundTask(identity, coordinator, self._units, self._uploads, link, self._deliveries)
        self._final_model = FinalModelFetch(
            identity,
            coordinator,
            self._models,
            can_export=options.can_export,
            once=options.once,
            reports=options.report_metrics,
            signed_only=options.signed_only,
        )
        self._release = ReleaseInstall(identity, self._files, stores.installation)
        self._heartbeat = Heartbeat(identity, coordinator)
        self._remeasurement = Remeasurement(coordinator)
        self._search = CoordinatorSearch(identity, coordinator)
        self._wait = CoordinatorWait(coordinator, identity.topics.fleet, options.wait_seconds)

    def start(self) -> Effects:
        """Returns the effects before the first event."""
        return self._presence.start()

    def next_wakeup(self) -> float | None:
        """Returns when the next Tick is due at the latest, in seconds; None if only events matter."""
        if not self._coordinator.connected:
            return self._wait.next_wakeup()
        times = [part.next_wakeup() for part in self._polled]
        if self._idle:
            times.append(self._heartbeat.next_wakeup())
        times += [self._remeasurement.next_wakeup(), self._search.next_wakeup(), self._wait.next_wakeup()]
        times.append(self._presence.next_wakeup())
        return min((time for time in times if time is not None), default=None)

    def handle(self, event: Event, now: float) -> Effects:
        """Takes one event and returns its effects, in order.

        Args:
            event: Event to handle.
            now: Seconds on any monotonic clock.
        """
        self._presence.tick(now)
        effects = self._dispatch(event, now)
        if self._coordinator.connected:
            effects += self._link.poll_measurement(now)
        effects += self._report_device(now)
        if self._coordinator.connected:
            effects += [*self._presence.poll(), *self._link.poll_in_transit(now), *self._search.poll(now)]
            effects += [*self._round_task.poll(now), *self._uploads.poll(now), *self._final_model.poll(now)]
            effects += self._release.poll(now)
            effects += self._link.missed_rounds()
            effects += self._link.poll_in_transit(now)  # what the others have just found that they want to know
            effects += self._measure_again(now)
            if self._idle and self._heartbeat.due(now):
                reports = self._presence.announce()
                effects += [*reports, *self._assignment.ready()]
                effects += self._heartbeat.reported() if reports else []
        effects += self._wait.poll(now, answered=self._heartbeat.heard, busy=self._works_alone)
        self._presence.echo_bytes += sum(len(effect.payload) for effect in effects if isinstance(effect, SendProbe))
        return effects

    @property
    def _idle(self) -> bool:
        """Whether only a message of the coordinator can give this device something to do."""
        return self.free and not self._assignment.refused

    @property
    def _works_alone(self) -> bool:
        """Whether this device does something that needs no coordinator, and would be lost if it ended."""
        return self._round_task.training or not (self._final_model.idle and self._release.idle)

    @property
    def free(self) -> bool:
        """Whether this device has neither a task nor an update or a model in transit."""
        return self._round_task.idle and self._uploads.idle and self._final_model.idle and self._release.idle

    @property
    def _polled(self) -> tuple[LinkMonitor | RoundTask | Uploads | FinalModelFetch | ReleaseInstall, ...]:
        return self._link, self._round_task, self._uploads, self._final_model, self._release

    def _dispatch(self, event: Event, now: float) -> Effects:
        effects: Effects = []
        match event:
            case DeviceMeasured(facts):
                self._unreported = facts
            case ModelBuilt():
                effects = self._assignment.built(event)
                self._units.limit_prefetch(self._assignment.prefetch_bytes())
            case BuildFailed():
                effects = self._assignment.build_failed(event)
            case RoundTrained():
                effects = self._round_task.trained(event, now)
            case TrainingFailed():
                effects = self._round_task.failed(event)
            case ChunkDelivered(update, index) | ChunkRefused(update, index):
                delivered = isinstance(event, ChunkDelivered)
                settle = self._uploads.delivered if delivered else self._uploads.refused
                effects = settle(update, index, now)
            case ModelChecked() | ModelInstalled() | InstallFailed() | NothingToExport():
                effects = self._final_model.happened(event)
            case InstallationReported(report):
                effects = self._release.reported(report, now)
            case FilesWanted():
                effects = self._release.files_wanted(event, now)
            case ServingReported() | Leave():
                effects = self._presence.leave() if isinstance(event, Leave) else self._presence.serving(event.report)
            case Tick():
                pass
            case _:
                effects = self._transport(event, now)
        return effects

    def _transport(self, event: TransportEvent, now: float) -> Effects:
        effects: Effects = []
        match event:
            case Connected(limits, repeated):
                self._coordinator.broker_connected(limits, now)
                self._uploads.limit_message_bytes(_payload_bytes(limits))
                self._units.ask_soon(now)
                note = [] if repeated else [Log(f"connected (MQTT {limits.protocol})")]
                effects = [*note, *self._presence.announce(), *self._assignment.ready()]
            case Disconnected(reason, repeated):
                self._coordinator.broker_disconnected()
                lost = Log(f"disconnected: {reason}; trying again, nothing is lost", warning=True)
                effects = [*([] if repeated else [lost]), *self._link.interrupted(), *self._search.end()]
            case Refused(topic) if topic in self._search.filters:
                pass
            case Refused(topic, reason) if topic == self._link.topic:
                effects = self._link.refused(reason)
            case Refused():
                effects = self._refused(event, now)
            case Subscribed(topic):
                effects = [*self._link.subscribed(topic, now), *self._assignment.subscribed(topic)]
            case Received():
                try:
                    effects = self._receive(event, now)
                except PeerError as error:
                    effects = [Log(f"{event.topic}: {error}", warning=True)]
            case MessageArriving():
                self._link.received_something(now)
                self._units.bytes_arriving(now)
                self._models.bytes_arriving(now)
                self._files.bytes_arriving(now)
            case Delivered():
                pass  # The service knows whose token it is and says ChunkDelivered.
        return effects

    def _refused(self, event: Refused, now: float) -> Effects:
        """Answers a refusal of the broker; every repeat of a message may bring another one, which is told rarely."""
        if event.token is None and not event.too_long:  # without a subscription nothing works
            return [Stop(self._refusals.words(event))]
        if event.too_long and event.topic == self._identity.topics.of("upload", self._identity.device):
            return []  # a piece of a chunk, which is asked for again and goes in shorter ones
        line = self._refusals.line(event, now)
        return [] if line is None else [Log(line, warning=True)]

    def _receive(self, event: Received, now: float) -> Effects:
        self._link.received_something(now)
        topics = self._identity.topics
        branch, leaf = topics.parse(event.topic)
        if branch in {"model", "repeat", "down"}:
            return self._from_coordinator(branch, leaf, event.payload, now)
        if branch == "echo":
            return self._link.echo(event.payload, now)
        if branch == "device":
            status = _decode_status(event.payload) if event.payload else None
            return self._presence.on_status(status, event.retained)
        if event.topic == topics.coordinator and event.payload:
            message = _decode_announcement(event.payload)
            return self._announced(message, now) if isinstance(message, Announcement) else []
        return [] if branch else self._search.unexpected_topic(event.topic)

    def _from_coordinator(self, branch: str, leaf: str, payload: bytes, now: float) -> Effects:
        if self._coordinator.other_protocol is not None:
            return []  # this agent does not understand it
        if branch == "down":
            return self._down(_decode_down(payload), now)
        unit, chunk = leaf if branch == "model" else None, Chunk.parse(payload)
        self._deliveries.came(repeated=unit is None)
        return [*self._report_progress(unit, chunk), *self._chunk(unit, chunk, len(payload), now)]

    def _chunk(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> Effects:
        """Gives a chunk to whoever lacks it, which may be several.

        The next run may begin with the very layers, and a release may hold the very file, that a run has ended with.
        """
        takers = (
            (self._models, self._final_model_chunk),
            (self._files, self._release_chunk),
            (self._units, self._unit_chunk),
        )
        takes = [take for downloads, take in takers if downloads.awaits(chunk)]
        if not takes:  # it comes once more, or ahead of the task that names it
            answered = [take for downloads, take in takers if unit is None and downloads.wants(chunk)]
            takes = [*answered, self._unit_chunk][:1]
        return [effect for take in takes for effect in take(unit, chunk, nbytes, now)]

    def _final_model_chunk(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> Effects:
        try:
            self._models.receive(unit, chunk, nbytes, now)
        except PeerError as error:
            return self._final_model.rejected(error)
        return self._final_model.received(now)

    def _release_chunk(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> Effects:
        try:
            self._files.receive(unit, chunk, nbytes, now)
        except (PeerError, OSError) as error:
            return self._release.rejected(failure_of(error))
        return self._release.received(now)

    def _unit_chunk(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> Effects:
        try:
            self._units.receive(unit, chunk, nbytes, now)
        except PeerError as error:
            return self._round_task.rejected(error)
        return self._round_task.progress()

    def _report_device(self, now: float) -> Effects:
        """Measures the link once the worker has measured the rest (each would disturb the other), and reports both."""
        if self._unreported is None:
            return []
        if not self._link.measured:
            broker = self._coordinator.broker
            return [] if broker is None else self._link.measure(broker, now)
        facts, self._unreported = self._unreported, None
        return self._presence.measured(self._link.with_rate(facts))

    def _measure_again(self, now: float) -> Effects:
        """Has a device that was refused measured anew: what was measured in a bad moment must not last for the run."""
        if not self._assignment.refused or not self.free or not self._remeasurement.due(now):
            return []
        self._link.measure_again()
        note = Log("measuring this device again, as its memory, speed or link may have been measured in a bad moment")
        return [note, MeasureAgain()]

    def _report_progress(self, unit: str | None, chunk: Chunk) -> Effects:
        """Answers a chunk of the broadcast that asks for a report."""
        assignment = self._assignment.assignment
        if unit is None or not chunk.report or assignment is None:
            return []
        device = self._identity.device
        message = Progress(run=assignment.run, device=device, unit=unit, blob=chunk.prefix.hex(), index=chunk.index)
        return [Publish(self._identity.topics.of("up", device), message)]

    def _down(self, message: FromCoordinator, now: float) -> Effects:
        if self._presence.contested:
            return []  # it may be another agent's; what is this one's comes again, as if it had got lost
        match message:
            case Registered() if message.device == self._identity.device:
                # The next report is as far away as ever: they would go back and forth every few seconds.
                first = self._heartbeat.answered()
                return [Log(f"the coordinator knows this device; {message.reason}")] if first else []
            case Assignment() | AssignmentRefused() | Task() | Grant() | Receipt() | RunEnded() | Install():
                if message.device == self._identity.device:
                    return self._message(message, now)
        return [Log("a message for another device came on this one's topic and is ignored", warning=True)]

    def _message(
        self, message: Assignment | AssignmentRefused | Task | Grant | Receipt | RunEnded | Install, now: float
    ) -> Effects:
        self._heartbeat.answered()
        self._heartbeat.restart(now)
        effects = self._notice_coordinator(message.run, now)
        match message:
            case Assignment():
                effects += self._assignment.assign(message)
                self._remeasurement.accepted()
                effects += self._notice_coordinator(message.run, now)
                self._units.limit_prefetch(self._assignment.prefetch_bytes())
            case AssignmentRefused():
                effects += self._assignment.on_refusal(message)
                self._remeasurement.refused(now)
            case Task():
                effects += self._task(message, now)
            case Grant():
                effects += self._uploads.grant(message, now)
            case Receipt():
                effects += self._uploads.receipt(message, now)
                if message.state == "accepted":
                    effects += self._link.done_in_time()
            case RunEnded():
                effects += self._end_run(message, now)
            case Install():
                effects += self._release.order(message, now)
        return effects

    def _notice_coordinator(self, run: str, now: float) -> Effects:
        """Who sends a message about this device's assignment is there, though its announcement got lost."""
        assignment = self._assignment.assignment
        if assignment is None or assignment.run != run or not self._coordinator.coordinator_message(run):
            return []
        return self._coordinator_came(now)

    def _coordinator_came(self, now: float) -> Effects:
        self._heartbeat.restart(now)
        self._round_task.coordinator_online(now)
        self._final_model.coordinator_online(now)
        self._release.coordinator_online(now)
        return [*self._search.end(), *self._uploads.coordinator_online(now)]

    def _end_run(self, message: RunEnded, now: float) -> Effects:
        own_model = self._assignment.assigned_model
        self._round_task.end(now)
        self._units.limit_prefetch({})
        effects = [*self._uploads.drop_run(message.run), *self._assignment.end()]
        return [*effects, *self._final_model.start(message, own_model, now)]

    def _task(self, task: Task, now: float) -> Effects:
        assignment, blueprint = self._assignment.assignment, self._assignment.blueprint
        if blueprint is None or assignment is None or assignment.run != task.run:
            # The coordinator takes this device for another life of itself; the status sets that right.
            text = f"the task of round {task.round} came without an assignment, which is asked for"
            return [Log(text), *self._presence.announce()]
        self._final_model.start_round()
        return self._round_task.assign(task, blueprint, now)

    def _announced(self, message: Announcement, now: float) -> Effects:
        if message.protocol != PROTOCOL:
            return self._announced_other(message, now)
        was_online = self._coordinator.online
        change = self._coordinator.announce(message, now)
        effects: Effects = []
        match change:
            case "came" | "restarted":
                who = "roll-out" if is_rollout(message.run) else "coordinator of run"
                effects = [Log(f"{who} {message.run} is online ({message.state})")]
                if change == "restarted":
                    # It may have forgotten this device; the very first one reads the retained status.
                    effects += self._presence.announce()
                effects += self._coordinator_came(now)
            case "left":
                if was_online and message.state == "finished":
                    what = "roll-out" if is_rollout(message.run) else "coordinator"
                    why = "" if is_rollout(message.run) else ", as its run is finished"
                    effects = [Log(f"the {what} has ended{why}; waiting for the next run")]
                elif was_online:
                    effects = [Log("the coordinator went offline; waiting for it", warning=True)]
                assignment = self._assignment.assignment
                if message.state == "finished" and assignment is not None and assignment.run == message.run:
                    # The end of the run was not heard of, and nobody is there any more to repeat it.
                    effects += self._end_run(RunEnded(run=message.run, device=self._identity.device, rounds=0), now)
        return effects

    def _announced_other(self, message: Announcement, now: float) -> Effects:
        """Ends an agent that is there for one run; any other waits for a coordinator that it understands.

        The model that is installed goes on answering, and no service starts the agent again and again.
        """
        before = self._coordinator.other_protocol
        self._coordinator.announce_other(message, now)
        if not message.online or before == message.protocol:
            return []
        text = f"the coordinator speaks protocol {message.protocol}, this agent {PROTOCOL}; update the older one"
        return [Stop(text) if self._once else Log(f"{text}. Waiting for one that speaks {PROTOCOL}", warning=True)]


def _payload_bytes(limits: BrokerLimits) -> int | None:
    """Returns the payload bytes of a chunk in a packet of the broker; None for any number, or if too few are of use."""
    with contextlib.suppress(BrokerError):
        return None if limits.max_packet_bytes is None else chunk_bytes_for(limits, limits.max_packet_bytes)
    return None
