"""This module runs a simulation from its first round to its last.

``schedule`` decides which devices work for a round and whose updates count; these devices train on the engine's
workers (``_work``), the sums are merged, and the server step makes the new model (``_step``). The new model is
evaluated while the next round trains, since no training depends on the scores, and so no worker waits. Then
``run_recorder`` records the round.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from itertools import chain

from msgspec.structs import replace

from fedlp_edge.core.algorithm import plausibility
from fedlp_edge.core.algorithm.aggregation import LayerwiseMean, capacity_bits, capacity_of
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.resolution import weight_limit
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.planning.planner import fleet_broadcast
from fedlp_edge.core.rounds.cohort import rates_of
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.targets import BUILT_IN_TASKS, TargetKind
from fedlp_edge.errors import DataError, DeviceError, FedLPError, WorkerError
from fedlp_edge.learning.data.readers.column_statistics import column_sums
from fedlp_edge.learning.start_weights_file import start_weights_of
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import scores
from fedlp_edge.simulation.engines.base import (
    Engine,
    QueuedJob,
    SimulationStoppedError,
    collect_sums,
    expected,
    run_jobs,
)
from fedlp_edge.simulation.engines.jobs import (
    ComputeMetrics,
    DescribeTask,
    DeviceGaveUp,
    DeviceJudged,
    DeviceTrained,
    MetricsComputed,
    PartEvaluated,
    TaskDescribed,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.engines.personal_heads import evaluate_personal_heads
from fedlp_edge.simulation.engines.recovery import RecoveringEngine
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import make_fleet
from fedlp_edge.simulation.fleet_compute_modes import compute_modes
from fedlp_edge.simulation.model_publisher import ModelPublisher
from fedlp_edge.simulation.round_jobs import RoundJobs
from fedlp_edge.simulation.run_recorder import PendingRound, RunRecorder
from fedlp_edge.simulation.schedule import DevicesMissing, RoundClosing, RoundExtended, RoundOpening, Schedule
from fedlp_edge.simulation.simulated_data import SimulationData, assign_data, read_simulation_data
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.device_values import DeviceValues
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory


class Simulation:
    """One run of one experiment.

    Args:
        experiment: Experiment.
        directory: Locked run directory.
        journal: Journal of the run, open.
        engine: Engine, which may be used for other experiments afterwards.
        emit: Callback for every event of the run.
        stopped: Function that returns whether the simulation shall stop, called regularly.
        make_global_model: Function with the parameters of ``GlobalModel`` that makes the global model.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        journal: Journal,
        engine: Engine,
        *,
        emit: Callable[[events.AnyEvent], None],
        stopped: Callable[[], bool],
        make_global_model: Callable[..., GlobalModel] = GlobalModel,
    ) -> None:
        self._experiment = experiment
        self._directory = directory
        self._stopped = stopped
        self._make_global_model = make_global_model
        self._journal = journal
        self._recorder = RunRecorder(experiment, directory, journal, emit)
        self._engine: Engine = RecoveringEngine(engine, self._recorder.worker_died)
        self._checkpoints = Checkpoints(directory.checkpoints, _kept_checkpoints(experiment))
        self._device_values = DeviceValues(directory.path / "devices")
        feedback = experiment.update.error_feedback
        self._residuals = DeviceValues(directory.path / "residuals") if feedback else None
        self._published: set[int] = set()
        self._pending: PendingRound | None = None
        self._round_began = 0.0

    @property
    def round(self) -> int:
        """Number of the round with which a restart would continue."""
        return self._recorder.committed + 1

    def run(self) -> Summary:
        """Runs to the end, from the start or from the last committed round; returns the summary.

        Raises:
            SimulationStoppedError: ``stopped()`` returned True.
            FedLPError: Data or model cannot be used, a worker ended, or the disk is full.
        """
        began = time.monotonic()
        try:
            self._prepare()
            self._go()
            final = self._recorder.judged.final_model(self._checkpoints.has, self._digest_of)
            scores = self._judged_on_devices(final.round)
            return self._recorder.finish(final, time.monotonic() - began, scores)
        except (SimulationStoppedError, FedLPError):
            self._recorder.keep()
            raise

    def _prepare(self) -> None:
        experiment, committed = self._experiment, self._recorder.committed
        data, model = experiment.data, experiment.model
        simulation_data = read_simulation_data(data.train, data.evaluate, model.input, self._target_kind())
        self._test_samples = simulation_data.test_samples
        if simulation_data.features is not None:
            self._journal.put_columns("features", simulation_data.features)
        if (targets := _targets(model, simulation_data)) is not None:
            self._journal.put_columns("targets", targets)
        assignment = assign_data(experiment, simulation_data)
        opened = self._engine.open(_setup(experiment, simulation_data), simulation_data, assignment)
        self._blueprint, weights = opened.blueprint, opened.weights
        fleet = make_fleet(experiment, self._blueprint, assignment)
        state = None
        if committed:
            weights, state = self._checkpoints.load(committed)
        else:
            self._checkpoints.save(0, weights, ServerState())
        self._model = self._make_global_model(
            self._blueprint,
            experiment.scheme,
            experiment.server,
            weights,
            state,
            update=experiment.update,
            seed=experiment.seed,
        )
        broadcast = experiment.update.broadcast
        if broadcast == "auto":
            broadcast = fleet_broadcast((device.plan for device in fleet.values()), self._blueprint)
        self._publisher = ModelPublisher(self._engine, self._blueprint, broadcast)
        for summary in self._recorder.summaries:
            self._publisher.restore(summary.round, summary.published)
        self._publish(committed)
        self._held_depths = {device.depth for summary in self._recorder.summaries for device in summary.devices}
        modes = compute_modes(experiment, fleet, self._engine, self._directory.path / "compute.json", self._stopped)
        self._round_jobs = RoundJobs(experiment, self._blueprint, fleet, self._device_values, modes, self._residuals)
        for summary in self._recorder.summaries:
            for contributor in summary.devices:
                if contributor.status == "contributed":
                    self._round_jobs.last_counted[contributor.id] = summary.round - contributor.staleness
                if contributor.id in fleet:
                    self._round_jobs.note_compute(contributor.id, contributor.depth, contributor.compute)
        self._schedule = Schedule(experiment, fleet, self._assign)
        self._recorder.begin(
            self._blueprint,
            fleet,
            assignment,
            self._round_jobs,
            self._publisher,
            opened.start_weights,
            _named(experiment.model, simulation_data),
        )
        if not any(device.plan.depth for device in fleet.values()):
            raise DeviceError("no device of the fleet can bear even depth 1: take larger profiles or a smaller model")

    def _target_kind(self) -> TargetKind:
        """What the task learns; of a task of the user's own a worker says it, which has torch."""
        model = self._experiment.model
        if model.task in BUILT_IN_TASKS:
            return BUILT_IN_TASKS[model.task]
        [reply] = run_jobs(self._engine, [QueuedJob(DescribeTask(model), cost=1)], self._stopped)
        return expected(reply, TaskDescribed).targets

    def _go(self) -> None:
        done, judged = self._recorder.committed, self._recorder.judged
        self._round_began = time.monotonic()
        if judged.over:
            return
        for step in self._schedule.steps():
            match step:
                case RoundClosing(number) if number > done:
                    self._do(step)
                    if self._experiment.evaluation.patience:
                        self._work([])  # whether the next round trains at all depends on how this one is judged
                    if judged.enough:
                        break
                case RoundOpening(number, devices) if number > done:
                    self._recorder.opened(number, devices)
                case RoundExtended(number, contributors, quorum) if number > done:
                    self._recorder.extended(number, contributors, quorum)
                case DevicesMissing(present, wanted) if self._schedule.round > done:
                    self._recorder.waiting(present, wanted)
                case _:
                    pass  # all rounds were committed before the interruption
        self._work([])

    def _digest_of(self, round: int) -> str:
        if round == self._recorder.committed:
            return self._model.digest
        return self._model.digest_of(self._checkpoints.load(round)[0])

    def _judged_on_devices(self, round: int) -> dict[str, dict[int, HeldOutScores]]:
        """What the model of a round is worth on the held-out samples of every device, by device and depth."""
        if not self._experiment.holdout_share:
            return {}
        version = self._judged_version
        if round != self._recorder.committed:
            stored, state = self._checkpoints.load(round)
            version = -1 - round
            self._engine.publish(
                version, {name: state.averages.get(name, stored[name]) for name in self._model.weights}
            )
        jobs = self._round_jobs.judgements(version, self._recorder.committed)
        replies = run_jobs(self._engine, jobs, self._stopped)
        return {reply.device: reply.scores for reply in replies if isinstance(reply, DeviceJudged) and reply.scores}

    def _assign(self, round: int, place: CohortMember) -> CohortMember:
        """Returns a cohort member with its rates: the recorded ones if its round is committed already."""
        if round <= self._recorder.committed:
            return self._recorder.places(round)[place.device]
        return rates_of(self._model)(round, place)

    def _do(self, closing: RoundClosing) -> None:
        for version in {place.task_round(closing.round) - 1 for place in closing.contributors.values()}:
            self._make_known(version)
        page = PendingRound(closing, {}, {})
        self._work(self._round_jobs.jobs(closing), page)
        if len(page.trained) < self._experiment.rounds.quorum_of(len(closing.contributors)):
            raise WorkerError(f"round {closing.round}: {next(iter(page.failed.values()))}")
        self._settle(page)
        closing = page.closing
        self._round_jobs.last_counted.update(dict.fromkeys(page.trained, closing.round))
        self._step(closing)
        now = time.monotonic()
        page.seconds, self._round_began = now - self._round_began, now
        self._held_depths |= {place.depth for place in closing.given.values()}
        page.depths = (
            self._blueprint.judged_depths(self._held_depths) if self._experiment.is_evaluated(closing.round) else ()
        )
        self._pending = page

    def _work(self, jobs: list[QueuedJob], page: PendingRound | None = None) -> None:
        """Trains a round's devices, evaluates the model of the round before, and records that round."""
        for reply in run_jobs(self._engine, chain(jobs, self._evaluating()), self._stopped):
            if isinstance(reply, PartEvaluated) and self._pending is not None:
                self._pending.judged.append(reply)
            elif isinstance(reply, DeviceTrained) and page is not None:
                self._trained(page, reply)
            elif isinstance(reply, DeviceGaveUp) and page is not None:
                page.failed[reply.device] = reply.reason
                self._recorder.gave_up(page.closing, reply.device, reply.reason)
        if self._pending is not None:
            number = self._pending.closing.round
            if self._pending.judged and self._experiment.model.task not in BUILT_IN_TASKS:
                compute = QueuedJob(ComputeMetrics(scores.summed(self._pending.judged)), cost=1)
                [computed] = run_jobs(self._engine, [compute], self._stopped)
                self._pending.own_metrics = expected(computed, MetricsComputed)
            if self._pending.depths and self._recorder.ends_with(self._pending):
                own = evaluate_personal_heads(
                    self._engine, self._round_jobs, self._judged_version, number, self._stopped
                )
                self._pending.own.extend(own)
            self._recorder.commit(self._pending)
            self._checkpoints.prune(number, self._recorder.judged.kept_rounds)
            self._device_values.prune_all(number)
            if self._residuals is not None:
                for device in self._pending.trained:
                    self._residuals.prune(device, number)
            self._pending = None

    def _trained(self, page: PendingRound, reply: DeviceTrained) -> None:
        if reply.withheld_values:
            self._device_values.write(reply.device, reply.round, reply.withheld_values)
        if reply.residuals and self._residuals is not None:
            self._residuals.write(reply.device, reply.round, reply.residuals)
        if reply.device in page.closing.contributors:
            depth = page.closing.contributors[reply.device].depth
            self._round_jobs.note_compute(reply.device, depth, reply.compute)
            page.trained[reply.device] = reply
            self._recorder.accepted(page.closing, reply)

    def _settle(self, page: PendingRound) -> None:
        """Drops and reweighs updates as a coordinator would; nearly always this changes nothing."""
        excluded, settled, before = self._leave_out_implausible(page), page.closing, page.closing
        if self._experiment.rounds.mode == "synchronous":
            settled = self._settled(page)
        heavier = settled.contributors != before.contributors
        if not excluded and not heavier and capacity_bits(settled.capacity) == capacity_bits(before.capacity):
            return
        page.closing = settled
        for _ in collect_sums(self._engine, before.capacity):
            pass  # discards the sums, which have another scale or hold dropped updates
        jobs = [job for job in self._round_jobs.jobs(settled) if self._counts(job, page)]
        for _ in run_jobs(self._engine, jobs, self._stopped):
            pass  # trains the remaining updates again, into new sums

    def _leave_out_implausible(self, page: PendingRound) -> bool:
        """Drops updates that are implausibly large; returns whether there were any."""
        limit = self._experiment.limits.norm_ratio
        found = plausibility.deviations(self._blueprint.global_units, self._model.weights, _sizes(page))
        excluded = {device: times for device, times in sorted(found.items()) if limit and times > limit}
        for device, times in excluded.items():
            page.failed[device] = f"the update is {times:.3g} times as large as the others'"
            del page.trained[device]
            self._recorder.gave_up(page.closing, device, page.failed[device])
        return bool(excluded)

    def _settled(self, page: PendingRound) -> RoundClosing:
        """Returns the round's closing with the update weights and the capacity of the updates that count."""
        units, closing = self._blueprint.global_units, page.closing
        places = {device: closing.contributors[device] for device in page.trained}
        weights = {device: min(page.trained[device].samples, place.weight) for device, place in places.items()}
        if limit := weight_limit(units, plausibility.sizes_of(units, self._model.weights), _sizes(page), weights):
            weights = {device: min(weight, limit.most) for device, weight in weights.items()}
            lighter = {d: replace(place, weight=min(place.weight, limit.most)) for d, place in places.items()}
            closing = dataclasses.replace(closing, contributors={**closing.contributors, **lighter})
        return dataclasses.replace(closing, capacity=capacity_of(weights.values()))

    def _counts(self, job: QueuedJob, page: PendingRound) -> bool:
        return isinstance(job.job, TrainDevice) and job.job.counted and job.job.device in page.trained

    def _step(self, closing: RoundClosing) -> None:
        """Makes the round's new global model by the server step."""
        shapes, statistics = self._blueprint.nested_shapes, self._blueprint.statistics
        mean = LayerwiseMean(closing.capacity, shapes, statistics)
        for sums in collect_sums(self._engine, closing.capacity):
            mean.merge(LayerwiseMean.from_arrays(sums, closing.capacity, shapes, statistics))
        self._model.step(closing.round, mean)
        if problem := self._model.problem():
            raise WorkerError(f"round {closing.round} makes no model: {problem}; lower [training] lr or [server] lr")
        self._publish(closing.round)
        for version in [v for v in self._published if v < closing.oldest_task - 1 and v not in self._latest]:
            self._published.discard(version)
            self._engine.retire(version)
        self._checkpoints.save(closing.round, self._model.whole, self._model.state)

    def _publish(self, round: int) -> None:
        """Publishes the model after a round, and sets which of its exits are evaluated."""
        self._publisher.publish(round, self._model.weights)
        self._judged_version = round
        if self._experiment.server.ema or not self._publisher.exact:
            self._judged_version = -1 - round
            self._engine.publish(self._judged_version, self._model.evaluated)
        self._latest = {round, self._judged_version}
        self._published |= self._latest

    def _make_known(self, version: int) -> None:
        """Publishes an older model, from which a device started before an interruption of the run."""
        if version not in self._published:
            self._publisher.publish(version, self._checkpoints.load(version)[0])
            self._published.add(version)

    def _evaluating(self) -> list[QueuedJob]:
        if self._pending is None or not self._pending.depths:
            return []
        macs = self._blueprint.costs[max(self._pending.depths) - 1].forward_macs
        return scores.parts(self._judged_version, self._pending.depths, self._test_samples, macs)


def _sizes(page: PendingRound) -> dict[str, plausibility.Sizes]:
    return {device: reply.sizes for device, reply in page.trained.items()}


def _setup(experiment: Experiment, simulation_data: SimulationData) -> WorkerSetup:
    return WorkerSetup(
        model=experiment.model.without_weights.with_targets(_targets(experiment.model, simulation_data)),
        weights=start_weights_of(experiment.model),
        seed=experiment.seed,
        training=experiment.training,
        uniform=experiment.scheme.weights == "uniform",
        freeze=experiment.scheme.prune == "train",
        classes=simulation_data.classes,
        scale=simulation_data.scale,
        mean=simulation_data.mean,
        std=simulation_data.std,
        holdout=experiment.holdout_share,
        fresh_statistics=not experiment.data.evaluate,
        processor=experiment.simulation.device,
        answer=experiment.answer,
    )


def _named(model: ModelSettings, simulation_data: SimulationData) -> ModelSettings:
    """Returns the settings with the names and numbers of the outputs that the data have."""
    names = model.class_names or simulation_data.names
    outputs = max(2, model.classes) if model.task == "classification" else model.classes
    if model.classes and len(names) > outputs:
        names = ()
    return replace(model.with_targets(_targets(model, simulation_data)), class_names=names)


def _targets(model: ModelSettings, simulation_data: SimulationData) -> ColumnSums | None:
    """Returns the statistics of the targets, as a fleet agrees on them from its reports; None where none are needed."""
    if model.task != "regression" or model.target_mean:
        return None
    y = simulation_data.arrays["train/y"]
    if model.classes and y.shape[1] != model.classes:
        raise DataError(
            f"the samples have {y.shape[1]} targets but the model has {model.classes} outputs: "
            f"set [model] classes = {y.shape[1]}"
        )
    return column_sums(y, tuple(str(number) for number in range(1, y.shape[1] + 1)))


def _kept_checkpoints(experiment: Experiment) -> int:
    """Returns the number of checkpoints to keep: at least all models from which devices may start again."""
    rounds = experiment.rounds
    if not rounds.keep_checkpoints or rounds.mode == "synchronous":
        return rounds.keep_checkpoints
    return max(rounds.keep_checkpoints, rounds.max_staleness + 2)
