"""The coordinator's one loop: what broker, worker and clock bring is taken in order, by one thread.

Devices report, get an assignment and are ready; the round keeper gives them work; at the end the models are
exported and handed to the devices.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

from coordinator.background import Background, TaskFinished
from coordinator.config import FleetConfig
from coordinator.final_export import FinalExport
from coordinator.fleet.device_search import DeviceSearch
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.fleet.link_rates import FleetLinks
from coordinator.fleet.membership import Membership
from coordinator.fleet.message_allowance import MessageAllowance
from coordinator.fleet.registry import Registry
from coordinator.rounds.round_controller import RoundController
from coordinator.tenancy import OccupiedError, Tenancy
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.messenger import ControlMessenger
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.rounds import events as round_events
from fedlp_edge.errors import DataError, ModelError, OperatorError, PeerError, SettingError, WorkerError
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import (
    FinalModel,
    Purpose,
    RoundSummary,
    Summary,
    Traffic,
    load,
    save_encoded,
)
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.base import (
    BrokerLimits,
    Connected,
    Delivered,
    Disconnected,
    Received,
    Refused,
    Transport,
    TransportEvent,
)
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.chunks import chunk_bytes_for
from fedlp_edge.wire.messages import (
    PROTOCOL,
    Announcement,
    Claim,
    DeploymentReport,
    Failure,
    FromDevice,
    Offer,
    Progress,
    Ready,
    Status,
    UnitRequest,
    decoder,
)
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import Build, Built, Evaluated, Failed
from fedlp_edge.worker.process import WorkerDied, WorkerEvent, WorkerProcess, WorkerReply

log = logging.getLogger("fedlp.coordinator")

MAX_CONTROL_BYTES = 1 << 20
"""Longest control message that is read at all; an offer for a model of 4,000 units stays far below."""

WINDOW = 32
"""Chunks that the broker may not have acknowledged yet."""

HEARTBEAT_SECONDS = 0.5
BUILD_SECONDS = 600.0

RETURN_SECONDS = 20.0
"""For devices to report to a coordinator that was started again after the last round; who does is waited for."""


@dataclass(frozen=True)
class StopRequested:
    """Put into the inbox to end the loop."""


InboxItem = TransportEvent | WorkerEvent | TaskFinished | StopRequested


class Coordinator:
    """One run of one fleet.

    Args:
        config: the fleet.
        directory: of the run, locked.
        inbox: where transport, worker and the stop signal put their events.
        transport: not yet started.
        worker: for evaluation and export.
        emit: takes every event of the run.
        clock: monotonic seconds.
        executor: runs what waits for the disk, one piece at a time; a thread by default.
        hand_out: of a run that is finished: wait without end for the devices that lack their final models.
    """

    def __init__(
        self,
        *,
        config: FleetConfig,
        directory: RunDirectory,
        inbox: queue.Queue[InboxItem],
        transport: Transport,
        worker: WorkerProcess,
        emit: Callable[[events.AnyEvent], None],
        clock: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
        hand_out: bool = False,
    ) -> None:
        self._config = config
        self._directory = directory
        self._inbox = inbox
        self._transport = transport
        self._worker = worker
        self._emit = emit
        self._clock = clock
        self._background = Background(executor or ThreadPoolExecutor(1, "disk"), inbox.put)
        self._run = config.run_name
        self._topics = Topics(config.fleet)
        self._messenger = ControlMessenger(transport, self._topics, self._run)
        self._publisher = WindowedPublisher(transport, WINDOW)
        self._read_message = decoder(FromDevice, MAX_CONTROL_BYTES)
        self._read_announcement = decoder(Announcement | Claim, MAX_CONTROL_BYTES)
        self._read_status = decoder(Status, MAX_CONTROL_BYTES)
        self._checkpoints = Checkpoints(directory.checkpoints, config.rounds.keep_checkpoints)
        self._final_export: FinalExport | None = None
        self._hand_out = hand_out
        self._allowances = MessageAllowance(clock)
        self._began = clock()
        self._tenancy = Tenancy(self._messenger.session, self._run, self._began)
        self._after: dict[Purpose, Traffic] = {}

    def run(self) -> bool:
        """Runs until the last round is exported and handed out, or until stopped.

        Returns:
            True if the run is finished, False if it was stopped and can go on.

        Raises:
            FedLPError: the model cannot be built, the broker refuses, the disk is full.
        """
        self._journal = Journal(self._directory.journal)
        try:
            self._blueprint, test_data = self._build()
            self._classes = FleetClasses(
                self._config.model,
                self._blueprint,
                self._journal,
                test_data,
                # Before the first round they were agreed, and a single device may come for its final model.
                1 if any(self._journal.summaries()) else self._config.rounds.min_devices,
                self._clock,
            )
            self._transport.start(self._inbox.put)
            try:
                limits = self._first_connection()
                if limits is None or not self._settle_in():
                    return False
                try:
                    self._prepare(limits)
                    self._loop()
                    if self._final_export is not None and self._final_export.told:
                        self._after = self._messenger.take_traffic()
                        self._write_summary(final=True)  # with what became of the models
                finally:
                    if self._tenancy.settled:
                        self._messenger.announce("finished" if self.finished else "offline", leaving=True)
            except OccupiedError as occupied:
                fleet, where = self._config.fleet, self._config.broker.url
                raise OperatorError(
                    f'another coordinator is at work for fleet "{fleet}" at {where} (run {occupied}); '
                    "stop that one, or give this fleet another name"
                ) from None
            finally:
                self._transport.stop()
        finally:
            self._worker.stop()
            self._background.stop()
            self._journal.close()
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether the run is over and every device was told."""
        return self._final_export is not None and self._final_export.done

    @property
    def round(self) -> int:
        """The round that a restart would go on with."""
        keeper = getattr(self, "_round_controller", None)
        return keeper.round if keeper else 1

    # Start

    def _build(self) -> tuple[Blueprint, DataFacts | None]:
        """Builds the model, and tries it on the test data before any device is asked for anything.

        Raises:
            SettingError: the model or the test data cannot be used.
        """
        first = self._checkpoints.weights_path(0)
        evaluate = self._config.data.evaluate
        job = Build(
            model=self._config.model,
            data=evaluate,
            split="test",
            seed=self._config.seed,
            state_path=None if first.exists() or any(self._journal.summaries()) else str(first),
            steps=True,
        )
        try:
            built = self._worker.call(job, timeout=BUILD_SECONDS)
        except DataError as error:
            raise SettingError(("data", "evaluate"), str(error)) from None
        except ModelError as error:
            raise SettingError(("model", "name"), str(error)) from None
        if not isinstance(built, Built):
            raise WorkerError(f"the worker answered a build with {type(built).__name__}")
        if evaluate:
            log.info("models are judged on %d samples of %s", built.samples, evaluate)
            if built.remarks:
                log.warning("%s: %s", evaluate, built.remarks)
        else:
            self._worker.stop()  # without data there is nothing to evaluate or export, and torch is large
        return built.blueprint, built.data

    def _first_connection(self) -> BrokerLimits | None:
        """Waits for the broker; None if stopped meanwhile."""
        while True:
            item = self._inbox.get()
            if isinstance(item, Connected):
                return item.limits
            if isinstance(item, StopRequested):
                return None

    def _settle_in(self) -> bool:
        """Finds out whether another coordinator is at work; False if stopped meanwhile.

        Raises:
            OccupiedError: there is one.
        """
        self._tenancy = Tenancy(self._messenger.session, self._run, self._clock())
        self._transport.subscribe(self._topics.coordinator)
        self._messenger.claim(self._tenancy.ask(self._clock()))
        while not self._tenancy.answered(self._clock()):
            try:
                item = self._inbox.get(timeout=max(0.0, self._tenancy.waits_until() - self._clock()))
            except queue.Empty:
                continue
            if isinstance(item, StopRequested):
                return False
            if isinstance(item, Connected):
                self._messenger.claim(self._tenancy.ask(self._clock()))
            if isinstance(item, Received) and item.topic == self._topics.coordinator:
                with suppress(PeerError):
                    self._overhear(item.payload, retained=item.retained)
        return True

    def _overhear(self, payload: bytes, *, retained: bool) -> None:
        """Somebody spoke on the coordinator's topic: this one itself, its last will, or another coordinator."""
        if not payload:
            return
        message = self._read_announcement(payload)
        if isinstance(message, Claim):
            if answer := self._tenancy.heard(message, self._clock()):
                self._messenger.claim(answer)
        elif isinstance(message, Announcement):
            self._tenancy.announced(message, self._clock())
            if self._tenancy.settled and not retained:
                self._messenger.overhear(message)

    def _prepare(self, limits: BrokerLimits) -> None:
        config = self._config
        chunk_bytes = chunk_bytes_for(limits)
        flow = FlowLimits.for_queue(limits.max_queued_messages)
        registry = Registry(AdaptivePlanner(self._blueprint, config.planning_rules), self._journal)
        links = FleetLinks(self._blueprint, registry.members, config.rounds.deadline_seconds)
        self._model_server = ModelServer(
            self._topics, self._publisher, chunk_bytes, self._messenger.count, flow, self._clock, links
        )
        profiles: dict[str, str] = {}
        bases = {device: basis for device, (basis, _) in self._journal.fitness().items()}
        self._round_controller = RoundController(
            config=config,
            run=self._run,
            blueprint=self._blueprint,
            directory=self._directory,
            journal=self._journal,
            checkpoints=self._checkpoints,
            messenger=self._messenger,
            model_server=self._model_server,
            chunk_bytes=chunk_bytes,
            flow=flow,
            links=links,
            worker=self._worker,
            background=self._background,
            emit=self._emit_and_save,
            clock=self._clock,
            profiles=profiles,
            classes=self._classes,
            bases=bases,
            finished=self._begin_final_export,
        )
        self._membership = Membership(
            run=self._run,
            classes=self._classes,
            blueprint_digest=self._blueprint.digest,
            uniform=config.scheme.weights == "uniform",
            registry=registry,
            profiles=profiles,
            bases=bases,
            fitness=self._round_controller.fitness,
            messenger=self._messenger,
            step=self._round_controller.step,
            emit=self._emit,
        )
        again = self._round_controller.last is not None or self._journal.unfinished_round() is not None
        self._emit(
            events.RunStarted(
                time=time.time(),
                run=self._run,
                fleet=config.fleet,
                model=config.model.name,
                depths=self._blueprint.full_depth,
                parameters=self._blueprint.costs[-1].parameters,
                rounds=config.rounds.count,
                resumed_at=self._round_controller.round if again else None,
                remark=self._blueprint.remark,
            )
        )
        self._device_search = DeviceSearch(self._topics, self._transport, self._clock())
        for branch in ("device", "up", "upload"):
            self._transport.subscribe(self._topics.of(branch, "+"))
        self._messenger.announce("waiting")
        self._round_controller.resume()
        if self._round_controller.all_committed:
            self._begin_final_export(again=True)
        else:
            self._round_controller.step(round_events.TimePassed())

    # The loop

    def _loop(self) -> None:
        while not self.finished:
            try:
                item = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                pass
            else:
                if isinstance(item, StopRequested):
                    return
                self._take(item)
            if self._tenancy.answered(self._clock()):
                self._messenger.announce()
            self._membership.tick()
            self._membership.tell_changes()
            self._round_controller.tick()
            self._model_server.tick()
            self._device_search.tick(self._clock(), alone=not self._membership.all())
            if self._final_export:
                self._final_export.tick(self._clock())

    def _patience(self) -> float:
        wake = self._round_controller.next_wakeup()
        return HEARTBEAT_SECONDS if wake is None else max(0.0, min(HEARTBEAT_SECONDS, wake - self._clock()))

    def _take(self, item: TransportEvent | WorkerEvent | TaskFinished) -> None:
        match item:
            case Received(topic, payload, retained):
                try:
                    self._receive(topic, payload, retained=retained)
                except PeerError as error:
                    if self._allowances.take(self._topics.parse(topic)[1]):
                        log.warning("ignored a message on %s: %s", topic, error)
            case Delivered(token):
                self._taken(token)
            case WorkerReply() | WorkerDied():
                self._worker_answered(item)
            case TaskFinished(then, error):
                if error is not None:
                    raise error
                then()
            case Connected(limits):
                log.info("connected to the broker again")
                self._model_server.narrow(chunk_bytes_for(limits))
                self._emit(events.BrokerBack(time=time.time()))
                # Another one may have come meanwhile; if not, this one says that it is there.
                self._messenger.claim(self._tenancy.ask(self._clock()))
            case Disconnected(reason):
                log.warning("lost the broker: %s", reason)
                self._device_search.end()
                self._emit(events.BrokerLost(time=time.time(), reason=reason))
            case Refused(topic, reason, token, too_long):
                # Its place in the window is free again; who misses a chunk that was too long asks for it.
                known = token is not None and self._taken(token) and too_long
                if not known and not self._device_search.asked(topic):
                    log.warning("the broker refused %s: %s", topic, reason)
            case _:
                pass

    def _taken(self, token: int) -> bool:
        """The broker is done with a message; returns whether it was a chunk."""
        self._round_controller.delivered(token)
        return self._publisher.delivered(token)

    def _receive(self, topic: str, payload: bytes, *, retained: bool) -> None:
        if topic == self._topics.coordinator:
            self._overhear(payload, retained=retained)
            return
        branch, leaf = self._topics.parse(topic)
        if not branch:
            self._device_search.strange(topic)
            return
        if branch == "upload":
            self._round_controller.chunk(leaf, payload)
            return
        self._messenger.count("control", len(payload))
        if branch == "device":
            status = _of(leaf, self._read_status(payload))
            if self._allowances.take(leaf):
                self._device_reported(status)  # type: ignore[arg-type]
            return
        message = _of(leaf, self._read_message(payload))
        # Of these each can make a line for people; all others answer what a device was asked.
        if not isinstance(message, Failure | DeploymentReport) or self._allowances.take(leaf):
            self._told(message)

    def _told(self, message: FromDevice) -> None:
        match message:
            case Ready():
                self._device_ready(message)
            case Failure():
                self._device_failed(message)
            case UnitRequest():
                self._unit_requested(message)
            case Progress():
                if message.run == self._run:
                    self._model_server.reported(message)
            case Offer():
                self._model_server.got(message.device)
                self._round_controller.offered(message)
            case DeploymentReport():
                if self._final_export and message.run == self._run:
                    self._final_export.reported(message, self._clock())
            case _:
                assert_never(message)

    def _worker_answered(self, answer: WorkerEvent) -> None:
        match answer:
            case _ if self._final_export is not None:
                if self._final_export.answered(answer):
                    self._finish()
            case WorkerDied(how):
                raise WorkerError(f"the process that evaluates and exports ended: {how}")
            case WorkerReply(_, Failed() as failed):
                raise WorkerError(failed.reason)
            case WorkerReply(job, Evaluated() as result):
                self._round_controller.evaluated(job, result)
            case _:
                log.warning("the worker answered what nobody asked: %s", answer)

    # Devices

    def _device_reported(self, status: Status) -> None:
        if status.online and status.protocol != PROTOCOL:
            version = f"protocol {status.protocol} (version {status.version or 'unknown'})"
            raise PeerError(f"the agent speaks {version}, this coordinator protocol {PROTOCOL}; update the older one")
        if status.online and status.facts is not None:
            self._membership.reported(status)
            if self._final_export:
                self._final_export.noticed(status.device, self._clock())
        elif self._membership.left(status):
            self._model_server.gone(status.device)
            if self._final_export:
                self._final_export.left(status.device, self._clock())

    def _device_ready(self, message: Ready) -> None:
        member = self._membership.ready(message) if message.run == self._run else None
        if member is None:
            return
        if self._final_export:
            self._final_export.part_with(member, self._clock())
        else:
            self._membership.join(member)

    def _device_failed(self, failure: Failure) -> None:
        known = failure.run == self._run and self._membership.is_present(failure)
        if not known or (
            failure.round is not None and not self._round_controller.awaits(failure.device, failure.round)
        ):
            return
        log.warning("%s failed: %s", failure.device, failure.reason)
        self._emit(
            events.DeviceFailed(time=time.time(), round=failure.round, device=failure.device, reason=failure.reason)
        )
        self._round_controller.failed(failure, self._membership.failed(failure))

    def _unit_requested(self, request: UnitRequest) -> None:
        if request.run != self._run or not self._membership.knows(request.device):
            return
        if self._final_export:
            self._final_export.requested(request, self._clock())
        if not self._model_server.repeat(request):
            log.debug("%s asked for an old version of %s", request.device, request.unit)
            self._round_controller.outdated(request.device)

    # The end

    def _begin_final_export(self, *, again: bool = False) -> None:
        # Devices with a head of their own make their final models from what the shelf holds.
        self._model_server.put_weights(self._blueprint, self._round_controller.final_weights)
        self._final_export = FinalExport(
            config=self._config,
            run=self._run,
            model=self._classes.model,
            blueprint=self._blueprint,
            depths=self._round_controller.useful_depths,
            state_path=self._checkpoints.evaluated_path(self._last.round),
            directory=self._directory,
            worker=self._worker,
            model_server=self._model_server,
            tell=self._messenger.tell,
            emit=self._emit,
        )
        if again:
            until = math.inf if self._hand_out else self._clock() + RETURN_SECONDS
            known = [device for device, (plan, _) in self._journal.plans().items() if plan.depth]
            self._final_export.take_up(self._earlier_summary(), known, until)
        if self._final_export.exports:
            self._final_export.export()
        else:
            self._finish()

    def _earlier_summary(self) -> Summary | None:
        """What an earlier life wrote after the last round, if that was of the same model."""
        if not self._directory.summary.exists():
            return None
        earlier = load(self._directory.summary)
        same = earlier.final is not None and earlier.final.model_digest == self._round_controller.digest
        return earlier if same else None

    def _finish(self) -> None:
        if self._final_export is None:
            return
        self._write_summary(final=True)
        self._messenger.announce("finished")
        self._final_export.farewell(self._membership.all(), self._clock())
        self._emit(
            events.RunFinished(
                time=time.time(),
                rounds=self._last.round,
                accuracy=self._last.accuracy,
                model_digest=self._round_controller.digest,
                seconds=self._clock() - self._began,
            )
        )

    def _emit_and_save(self, event: events.AnyEvent) -> None:
        """Keeps ``summary.json`` up with every committed round and with who cannot take part, should the run stop."""
        self._emit(event)
        telling = isinstance(event, events.RoundFinished | events.DeviceUnfit | events.DeviceSetAside)
        if telling and self._final_export is None:
            self._write_summary(final=False)
        if isinstance(event, events.UpdateAccepted):
            self._membership.observe(event)

    def _write_summary(self, *, final: bool) -> None:
        model = FinalModel(accuracy=self._last.accuracy, model_digest=self._round_controller.digest) if final else None
        summary = Summary(
            run=self._run,
            fleet=self._config.fleet,
            model=self._config.model.name,
            rounds=(),
            devices=self._round_controller.attendance.outcomes(),
            final=model,
            onnx=self._final_export.models if self._final_export else (),
            refused=self._final_export.refused if self._final_export else (),
            delivered=self._final_export.delivered if self._final_export else {},
            handed_over=self.finished,
            traffic=self._after,
        )
        save_encoded(summary, self._journal.summaries(), self._directory.summary)

    @property
    def _last(self) -> RoundSummary:
        if self._round_controller.last is None:
            raise ValueError("no round is committed")
        return self._round_controller.last


def _of(leaf: str, message: object) -> FromDevice:
    """The message, if it comes from the device that it names.

    Raises:
        PeerError: a device speaks in the name of another one.
    """
    device = getattr(message, "device", None)
    if device != leaf:
        raise PeerError(f"a message in the name of {device!r} came from {leaf!r}")
    return message  # type: ignore[return-value]
