"""Runs the coordinator's one loop: one thread takes in order what broker, worker and clock bring.

Devices report, get an assignment and are ready; the round controller gives them work; at the end the models are
exported and handed to the devices.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar, assert_never

from coordinator.background import TaskFinished
from coordinator.coordinator_topic import CoordinatorTopic
from coordinator.final.final_stage import FinalStage
from coordinator.fleet.device_search import DeviceSearch
from coordinator.fleet.echo_traffic import EchoTraffic
from coordinator.fleet.message_rate_limit import MessageRateLimit
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.monitoring.state_topic import StateTopic
from coordinator.run_context import RunContext
from coordinator.run_parts import RunParts
from coordinator.transfer.refusals import BrokerRefusals
from fedlp_edge.core.rounds import events as round_events
from fedlp_edge.errors import PeerError, WorkerError
from fedlp_edge.reporting import events
from fedlp_edge.transport.base import (
    Connected,
    Delivered,
    Disconnected,
    Received,
    Refused,
    Transport,
    TransportEvent,
)
from fedlp_edge.wire.chunks import chunk_bytes_for
from fedlp_edge.wire.messages import (
    PROTOCOL,
    Decoder,
    DeploymentReport,
    Failure,
    FromDevice,
    InstallReport,
    Offer,
    Progress,
    Ready,
    Status,
    UnitRequest,
)
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import Evaluated, Failed
from fedlp_edge.worker.process import WorkerDied, WorkerEvent, WorkerReply

log = logging.getLogger("fedlp.coordinator")

_DeviceMessage = TypeVar("_DeviceMessage", bound=FromDevice | Status)


class RunLoop:
    """The loop of one run, from the first device to the last final model.

    Args:
        context: Context of the run.
        parts: Parts that the run consists of.
        inbox: Queue for the events of transport, worker and stop signal.
        transport: Connected.
        coordinator_topic: Topic on which another coordinator would announce itself.
        state_topic: Topic with the state of the run.
        began: Time when the coordinator started, in seconds of the run's clock.
        hand_out: Whether to hand out the models of a run that is finished: wait without end for the devices that lack
            their final models.
    """

    def __init__(
        self,
        context: RunContext,
        parts: RunParts,
        inbox: queue.SimpleQueue[InboxItem],
        transport: Transport,
        coordinator_topic: CoordinatorTopic,
        state_topic: StateTopic,
        began: float,
        *,
        hand_out: bool = False,
    ) -> None:
        self._context = context
        self._publisher = parts.publisher
        self._model_server = parts.model_server
        self._rounds = parts.rounds
        self._commit = parts.commit
        self._membership = parts.membership
        self._summary_file = parts.summary_file
        self._inbox = inbox
        self._transport = transport
        self._coordinator_topic = coordinator_topic
        self._state_topic = state_topic
        self._topics = Topics(context.config.fleet)
        self._device_search = DeviceSearch(self._topics, transport, context.clock())
        self._message_rates = MessageRateLimit(context.clock)
        self._echo_traffic = EchoTraffic(context.messenger.count)
        self._refusals = BrokerRefusals(self._topics, context.clock)
        self._goes_on = False
        self._connected = True
        self._read_message = Decoder[FromDevice](FromDevice, LIMITS.control_bytes)
        self._read_status = Decoder[Status](Status, LIMITS.control_bytes)
        self._final_stage = FinalStage(context, parts, began, hand_out=hand_out)

    @property
    def finished(self) -> bool:
        """Whether the run is over and every device has its final model, or is not waited for."""
        return self._final_stage.finished

    @property
    def round(self) -> int:
        """Number of the round with which a restart would continue."""
        return self._rounds.round

    def run(self) -> None:
        """Runs until the final models are handed out, or until stopped."""
        self._start()
        self._loop()
        self._summary_file.catch_up()
        self._final_stage.end()

    def _loop(self) -> None:
        while not self.finished:
            for item in self._waiting():
                if isinstance(item, StopRequested):
                    return
                self._take(item)
                if self._rounds.all_committed and self._final_stage.export is None:
                    self._final_stage.begin()
            if self._coordinator_topic.answered():
                self._context.messenger.announce()
            self._membership.tick()
            self._membership.reassign_changed()
            self._rounds.tick()
            self._model_server.tick()
            self._summary_file.tick()
            self._state_topic.tick()
            self._device_search.tick(self._context.clock(), alone=not self._membership.all())
            if self._connected:  # without a broker nobody can be heard, so nobody is given up
                self._final_stage.tick()

    def _waiting(self) -> Iterator[InboxItem]:
        """Waits for an item, at most until something is due, and yields it with those that wait behind it."""
        with suppress(queue.Empty):
            yield self._inbox.get(timeout=self._patience())
            for _ in range(LIMITS.items_between_ticks - 1):
                yield self._inbox.get_nowait()

    def _start(self) -> None:
        config, blueprint = self._context.config, self._context.blueprint
        history = self._commit.history
        again = history.last is not None or self._context.journal.unfinished_round() is not None
        self._goes_on = again
        self._context.emit(
            events.RunStarted(
                time=time.time(),
                run=self._context.run,
                fleet=config.fleet,
                model=config.model.name,
                depths=blueprint.full_depth,
                parameters=blueprint.costs[-1].parameters,
                # A run that has learned enough ends before its number of rounds.
                rounds=history.committed if history.judged.over else config.rounds.count,
                resumed_at=self._rounds.round if again else None,
                remark=self._context.remark,
                start_weights=self._context.start_weights.line if self._context.start_weights else "",
                metric=history.judged.metric,
                answer=config.answer,
            )
        )
        for branch in ("device", "up", "upload"):
            self._transport.subscribe(self._topics.of(branch, "+"))
        self._context.messenger.announce("waiting")
        self._rounds.resume()
        if self._rounds.all_committed:
            self._final_stage.begin(again=True)
        else:
            self._rounds.step(round_events.TimePassed())

    def _patience(self) -> float:
        wake = self._rounds.next_wakeup()
        return (
            LIMITS.heartbeat_seconds
            if wake is None
            else max(0.0, min(LIMITS.heartbeat_seconds, wake - self._context.clock()))
        )

    def _take(self, item: TransportEvent | WorkerEvent | TaskFinished) -> None:
        match item:
            case Received(topic, payload, retained):
                try:
                    self._receive(topic, payload, retained=retained)
                except PeerError as error:
                    if self._message_rates.allows(self._topics.parse(topic)[1]):
                        log.warning("ignored a message on %s: %s", topic, error)
            case Delivered(token):
                self._taken(token)
            case WorkerReply() | WorkerDied():
                self._worker_answered(item)
            case TaskFinished(then, error):
                if error is not None:
                    raise error
                then()
            case Connected() | Disconnected():
                self._connection_changed(item)
            case Refused():
                if not self._device_search.asked(item.topic) and not self._state_topic.refused(item):
                    self._refusals.take(item, self._taken)
            case _:
                pass

    def _connection_changed(self, event: Connected | Disconnected) -> None:
        if isinstance(event, Disconnected):
            self._connected = False
            self._rounds.broker_lost()
            self._device_search.end()
            if not event.repeated:
                log.warning("lost the broker: %s", event.reason)
                self._context.emit(events.BrokerDisconnected(time=time.time(), reason=event.reason))
            return
        self._connected = True
        self._rounds.broker_back()
        self._final_stage.reconnected()
        self._model_server.narrow(chunk_bytes_for(event.limits))
        if not event.repeated:
            log.info("connected to the broker again")
            self._context.emit(events.BrokerReconnected(time=time.time()))
        self._state_topic.connected()
        # Another one may have come meanwhile; if not, this one says that it is there.
        self._coordinator_topic.ask()

    def _taken(self, token: int) -> bool:
        """Notes that the broker is done with a message; returns whether it was a chunk."""
        self._rounds.delivered(token)
        return self._publisher.delivered(token)

    def _receive(self, topic: str, payload: bytes, *, retained: bool) -> None:
        if topic == self._topics.coordinator:
            self._coordinator_topic.receive(payload, retained=retained)
            return
        branch, leaf = self._topics.parse(topic)
        if not branch:
            self._device_search.unexpected_topic(topic)
            return
        if branch == "upload":
            self._rounds.chunk(leaf, payload)
            return
        self._context.messenger.count("control", len(payload))
        if branch == "device" and not payload:
            return  # somebody has removed what the broker kept of a device, which will say it again if it is there
        if branch == "device":
            status = _of(leaf, self._read_status(payload))
            if self._message_rates.allows(leaf):
                self._device_reported(status, kept=retained)
                if self._membership.knows(leaf):
                    self._echo_traffic.reported(status, known=retained and self._goes_on)
            return
        message = _of(leaf, self._read_message(payload))
        # Of these each can make a line for people; all others answer what a device was asked.
        if not isinstance(message, Failure | DeploymentReport) or self._message_rates.allows(leaf):
            self._handle(message)

    def _handle(self, message: FromDevice) -> None:
        match message:
            case Ready():
                self._device_ready(message)
            case Failure():
                self._device_failed(message)
            case UnitRequest():
                self._unit_requested(message)
            case Progress():
                if message.run == self._context.run:
                    self._model_server.reported(message)
            case Offer():
                self._model_server.received_all(message.device)
                self._rounds.offered(message)
            case DeploymentReport():
                if (export := self._final_stage.export) and message.run == self._context.run:
                    export.reported(message, self._context.clock())
            case InstallReport():
                pass  # the last word of a device to a roll-out that is not at work any more
            case _:
                assert_never(message)

    def _worker_answered(self, answer: WorkerEvent) -> None:
        match answer:
            case _ if self._final_stage.export is not None:
                self._final_stage.answered(answer)
            case WorkerDied(how):
                raise WorkerError(f"the process that evaluates and exports ended: {how}")
            case WorkerReply(_, Failed() as failed):
                raise WorkerError(failed.reason)
            case WorkerReply(job, Evaluated() as result):
                self._commit.evaluated(job, result)
            case _:
                log.warning("the worker answered what nobody asked: %s", answer)

    # Devices

    def _device_reported(self, status: Status, *, kept: bool) -> None:
        if status.online and status.protocol != PROTOCOL:
            self._membership.turned_away(status)
        elif status.online and status.facts is not None:
            self._membership.reported(status, kept=kept)
            if export := self._final_stage.export:
                export.noticed(status.device, self._context.clock())
                if (member := self._membership.without_depth(status.device)) is not None:
                    export.announce_end_to(member, self._context.clock())
        elif self._membership.left(status):
            self._model_server.gone(status.device)
            if export := self._final_stage.export:
                export.left(status.device, self._context.clock())

    def _device_ready(self, message: Ready) -> None:
        member = self._membership.ready(message) if message.run == self._context.run else None
        if member is None:
            return
        if export := self._final_stage.export:
            export.announce_end_to(member, self._context.clock())
        else:
            self._membership.join(member)

    def _device_failed(self, failure: Failure) -> None:
        known = failure.run == self._context.run and self._membership.is_present(failure)
        if not known or (failure.round is not None and not self._rounds.awaits(failure.device, failure.round)):
            return
        log.warning("%s failed: %s", failure.device, failure.reason)
        self._context.emit(
            events.DeviceFailed(time=time.time(), round=failure.round, device=failure.device, reason=failure.reason)
        )
        self._rounds.failed(failure, self._membership.failed(failure))

    def _unit_requested(self, request: UnitRequest) -> None:
        if request.run != self._context.run or not self._membership.knows(request.device):
            return
        if export := self._final_stage.export:
            export.requested(request, self._context.clock())
        if not self._model_server.repeat(request):
            log.debug("%s asked for an old version of %s", request.device, request.unit)
            self._rounds.outdated(request.device)


def _of(leaf: str, message: _DeviceMessage) -> _DeviceMessage:
    """Returns the message if it comes from the device that it names.

    Raises:
        PeerError: A device speaks in the name of another one.
    """
    if message.device != leaf:
        raise PeerError(f"a message in the name of {message.device!r} came from {leaf!r}")
    return message
