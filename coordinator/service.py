"""Runs the coordinator's service: it goes from a configuration to a run, and ends it in an orderly way.

It builds the model, connects to the broker, and makes sure that no other coordinator is at work; ``run_loop`` has what
comes then.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import msgspec

from coordinator.background import Background
from coordinator.broker_clock import AwakeClock
from coordinator.config import FleetConfig
from coordinator.coordinator_topic import CoordinatorTopic, first_connection, settle_in
from coordinator.final.export_trial import try_export
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.inbox import InboxItem
from coordinator.limits import LIMITS
from coordinator.monitoring.state_topic import StateTopic
from coordinator.run_context import RunContext
from coordinator.run_loop import RunLoop
from coordinator.run_parts import assemble
from coordinator.topic_claim import TopicClaimedError, claimed_by
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.core.start_weights import StartWeightsReport
from fedlp_edge.errors import (
    DataError,
    FedLPError,
    FreezeError,
    ModelError,
    OperatorError,
    SettingError,
    StartWeightsError,
    StorageError,
    WorkerError,
)
from fedlp_edge.learning.start_weights_file import start_weights_of
from fedlp_edge.reporting import events
from fedlp_edge.reporting.log import read_events
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.incomplete_copies import lost_rounds
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.files import write_file
from fedlp_edge.transport.base import Transport
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import Build, Built
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger("fedlp.coordinator")


class Coordinator:
    """The service for one run of one fleet.

    Args:
        config: The fleet.
        directory: Directory of the run, locked.
        inbox: Queue for the events of transport, worker and stop signal.
        transport: Transport, not yet started.
        worker: Worker process for evaluation and export.
        emit: Function that takes every event of the run.
        clock: Monotonic seconds.
        executor: Runs what waits for the disk, one piece at a time; a thread by default.
    """

    def __init__(
        self,
        *,
        config: FleetConfig,
        directory: RunDirectory,
        inbox: queue.SimpleQueue[InboxItem],
        transport: Transport,
        worker: WorkerProcess,
        emit: Callable[[events.AnyEvent], None],
        clock: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        self._config = config
        self._directory = directory
        self._inbox = inbox
        self._transport = transport
        self._worker = worker
        self._clock = clock
        self._began = clock()
        self._background = Background(executor or ThreadPoolExecutor(1, "disk"), inbox.put)
        self._topics = Topics(config.fleet)
        self._messenger = ControlMessenger(transport, self._topics, config.run_name)
        self._coordinator_topic = CoordinatorTopic(self._messenger, config.run_name, clock)
        self._watch = emit
        self._state_topic = StateTopic(
            config.monitoring, transport, self._topics, clock, lambda: list(read_events(directory.events))
        )
        self._run_loop: RunLoop | None = None
        self._committed = 0

    def run(self, *, hand_out: bool = False) -> bool:
        """Runs until the last round is exported and handed out, or until stopped.

        Args:
            hand_out: Whether to hand out the models of a run that is finished: wait without end for the devices that
                lack their final models.

        Returns:
            True if the run is finished, False if it was stopped and can go on.

        Raises:
            FedLPError: The model cannot be built, the broker refuses, the disk is full.
        """
        problem = ""
        journal = Journal.open(self._directory.journal)
        try:
            self._committed = sum(1 for _ in journal.summaries())
            context, classes = self._build(journal)
            self._transport.start(self._inbox.put)
            try:
                limits = first_connection(self._inbox, self._wait_for_broker)
                if limits is None or not settle_in(self._inbox, self._transport, self._topics, self._coordinator_topic):
                    return False
                try:
                    parts = assemble(context, classes, self._transport, limits, self._worker, self._background)
                    self._run_loop = RunLoop(
                        context,
                        parts,
                        self._inbox,
                        self._transport,
                        self._coordinator_topic,
                        self._state_topic,
                        self._began,
                        hand_out=hand_out,
                    )
                    self._run_loop.run()
                except FedLPError as error:
                    problem = str(error)
                    raise
                finally:
                    if self._coordinator_topic.settled:
                        self._state_topic.end(self.round, finished=self.finished, error=problem)
                        self._messenger.announce("finished" if self.finished else "offline", leaving=True)
            except TopicClaimedError as occupied:
                fleet, where = self._config.fleet, self._config.broker.url
                raise OperatorError(
                    f'{claimed_by(str(occupied), other="another")} is at work for fleet "{fleet}" at {where}; '
                    "let it end, or stop it, or give this fleet another name"
                ) from None
            finally:
                self._transport.stop()
        finally:
            self._worker.stop()
            self._background.stop()
            journal.close()
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether the run is over and every device has its final model, or is not waited for."""
        return self._run_loop is not None and self._run_loop.finished

    @property
    def round(self) -> int:
        """Number of the round with which a restart would continue."""
        return self._run_loop.round if self._run_loop else self._committed + 1

    def _wait_for_broker(self) -> None:
        self._emit(events.WaitingForBroker(time=time.time(), url=self._config.broker.url))

    def _emit(self, event: events.AnyEvent) -> None:
        self._watch(event)
        self._state_topic.take(event)

    def _build(self, journal: Journal) -> tuple[RunContext, FleetClasses]:
        """Builds the model, and the context that all parts of the run share."""
        config = self._config
        checkpoints = Checkpoints(self._directory.checkpoints, config.rounds.keep_checkpoints)
        built = _build_model(config, journal, checkpoints, self._directory, self._worker)
        blueprint = built.blueprint
        begun = self._committed > 0
        doubt = "" if begun else try_export(config, blueprint, self._directory, self._worker)
        lost = lost_rounds(self._directory, self._committed)
        clock = AwakeClock(self._clock)
        context = RunContext(
            config=config,
            run=config.run_name,
            blueprint=blueprint,
            directory=self._directory,
            journal=journal,
            checkpoints=checkpoints,
            messenger=self._messenger,
            emit=self._emit,
            clock=clock,
            start_weights=_start_weights_report(self._directory),
            remark="; ".join(filter(None, (blueprint.remark, *built.warnings, doubt, lost))),
        )
        # Before the first round they were agreed, and a single device may come for its final model.
        wanted = 1 if begun else config.rounds.min_devices
        model = config.model.without_weights
        return context, FleetClasses(model, blueprint, journal, built.data, wanted, clock, built.targets)


def _start_weights_report(directory: RunDirectory) -> StartWeightsReport | None:
    """Returns the report on the start weights, of this life or an earlier one; None if the run has none."""
    if not directory.start_weights.exists():
        return None
    try:
        return msgspec.json.decode(directory.start_weights.read_bytes(), type=StartWeightsReport)
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"cannot read {directory.start_weights}: {error}") from None


def _build_model(
    config: FleetConfig,
    journal: Journal,
    checkpoints: Checkpoints,
    directory: RunDirectory,
    worker: WorkerProcess,
) -> Built:
    """Builds the model, and tries it on the test data before any device is asked for anything.

    Raises:
        SettingError: The model or the test data cannot be used.
    """
    first = checkpoints.weights_path(0)
    reported = not config.model.weights or directory.start_weights.exists()
    begun = any(journal.summaries()) or (first.exists() and reported)
    evaluate = config.data.evaluate
    job = Build(
        model=config.model.without_weights,
        data=evaluate,
        split="test",
        seed=config.seed,
        state_path=None if begun else str(first),
        steps=True,
        batch_size=config.training.batch_size,
    )
    try:
        if not begun:
            job = msgspec.structs.replace(job, weights=start_weights_of(config.model))
        built = worker.call(job, timeout=LIMITS.build_seconds)
    except DataError as error:
        raise SettingError(("data", "evaluate"), str(error)) from None
    except FreezeError as error:
        raise SettingError(("model", "freeze"), str(error)) from None
    except StartWeightsError as error:
        raise SettingError(("model", "weights"), str(error)) from None
    except ModelError as error:
        raise SettingError(("model", "name"), str(error)) from None
    if not isinstance(built, Built):
        raise WorkerError(f"the worker answered a build with {type(built).__name__}")
    if built.start_weights is not None:
        log.info("the model %s", built.start_weights.line)
        write_file(directory.start_weights, [msgspec.json.format(msgspec.json.encode(built.start_weights), indent=2)])
    if evaluate:
        log.info("models are judged on %d samples of %s", built.samples, evaluate)
        if built.remarks:
            log.warning("%s: %s", evaluate, built.remarks)
    else:
        worker.stop()  # without data there is nothing to evaluate or export, and torch is large
    return built
