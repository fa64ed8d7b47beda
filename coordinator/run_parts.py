"""Puts the parts of a run together, once its model, its broker and its claim to the fleet are settled."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from coordinator.background import Background
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.fleet.known_devices import KnownDevices, PlanChanges
from coordinator.fleet.link_rates import FleetLinks
from coordinator.fleet.membership import Membership
from coordinator.fleet.registry import Registry
from coordinator.limits import LIMITS
from coordinator.rounds.broadcast_choice import BroadcastChoice
from coordinator.rounds.fitness_reports import FitnessReports
from coordinator.rounds.round_commit import RoundCommit
from coordinator.rounds.round_controller import RoundController
from coordinator.rounds.run_history import RunHistory
from coordinator.rounds.tasks import Tasks
from coordinator.run_context import RunContext
from coordinator.summary_file import SummaryFile
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from coordinator.transfer.uploads import UploadScheduler
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.rounds.cohort import rates_of
from fedlp_edge.core.rounds.fitness import with_another_attempt
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.transport.base import BrokerLimits, Transport
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.chunks import chunk_bytes_for
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.process import WorkerProcess


@dataclass(frozen=True)
class RunParts:
    """The objects that a run consists of.

    Attributes:
        classes: The numbers of the fleet's classes.
        publisher: Sends chunks in a window.
        model_server: Serves the model.
        rounds: Carries the rounds out.
        commit: Part that makes the next model of a closed round.
        membership: The devices.
        known_devices: What is remembered of every device.
        summary_file: Writes ``summary.json``.
        worker: Evaluates and exports.
    """

    classes: FleetClasses
    publisher: WindowedPublisher
    model_server: ModelServer
    rounds: RoundController
    commit: RoundCommit
    membership: Membership
    known_devices: KnownDevices
    summary_file: SummaryFile
    worker: WorkerProcess


def assemble(
    context: RunContext,
    classes: FleetClasses,
    transport: Transport,
    limits: BrokerLimits,
    worker: WorkerProcess,
    background: Background,
) -> RunParts:
    """Makes the parts of a run from what earlier lives of the coordinator have left.

    Args:
        context: Context of the run.
        classes: The numbers of the fleet's classes.
        transport: Connected.
        limits: Limits of the broker.
        worker: Evaluates and exports.
        background: Does what waits for the disk.

    Raises:
        StorageError: A checkpoint is missing or damaged.
    """
    config, blueprint, journal = context.config, context.blueprint, context.journal
    deadline, chunk_bytes = config.rounds.deadline_seconds, chunk_bytes_for(limits)
    flow = FlowLimits.for_queue(limits.max_queued_messages, chunk_bytes, deadline)
    registry = Registry(AdaptivePlanner(blueprint, config.planning_rules), journal)
    links = FleetLinks(blueprint, registry.members, deadline)
    publisher = WindowedPublisher(transport, LIMITS.window_chunks)
    model_server = ModelServer(
        Topics(config.fleet), publisher, chunk_bytes, context.messenger.count, flow, context.clock, links
    )
    fitness, ready = journal.fitness(), journal.ready_devices()
    known_devices = KnownDevices(
        bases={device: basis for device, (basis, _) in fitness.items()}, data=journal.data_facts()
    )
    plan_changes = PlanChanges(registry)
    history = RunHistory(blueprint, known_devices.profiles, config.judging)
    history.replay(journal.summaries())
    weights, state = context.checkpoints.load(history.committed)
    model = GlobalModel(blueprint, config.scheme, config.server, weights, state, update=config.update, seed=config.seed)
    model_server.put_constants(blueprint, model.constants)
    broadcast = BroadcastChoice(context, registry, model, model_server)
    model_server.put_weights(blueprint, model.weights)
    # A run that has learned enough has no round left, however many its file wants.
    count = history.committed if history.judged.over else config.rounds.count
    machine = make_round_machine(
        msgspec.structs.replace(config.rounds, count=max(1, count)),
        config.seed,
        now=context.clock(),
        next_round=history.committed + 1,
        expected=ready,
        fitness=with_another_attempt({device: entry for device, (_, entry) in fitness.items()}, ready),
        assign=rates_of(model),
    )
    summary_file = SummaryFile(context, history, machine.fitness)
    commit = RoundCommit(context, model, history, summary_file, model_server, worker, background, classes)
    rounds = RoundController(
        context,
        machine,
        commit,
        Tasks(
            context,
            model_server,
            chunk_bytes,
            lambda: len(known_devices.profiles),
            broadcast.settle,
            commit.history.last_counted,
        ),
        UploadScheduler(chunk_bytes, context.messenger.tell, credit=flow.credit, links=links),
        FitnessReports(context, known_devices.bases, summary_file),
        plan_changes.observe,
    )
    membership = Membership(context, classes, registry, plan_changes, known_devices, rounds)
    return RunParts(classes, publisher, model_server, rounds, commit, membership, known_devices, summary_file, worker)
