"""A simulated run from top to bottom.

The course says who works for a round and whose updates count (``course``); these devices train on the engine's workers
(``_work``), the sums are merged, the server takes its step (``_step``). The new model is judged while the next round
trains: nothing that is learned depends on the verdict, and no worker waits. Then the round is written down (``books``).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from itertools import chain

from msgspec.structs import replace

from fedlp_edge.core import plausibility
from fedlp_edge.core.aggregation import LayerwiseMean, capacity_bits, capacity_of
from fedlp_edge.core.global_model import GlobalModel
from fedlp_edge.core.resolution import weight_limit
from fedlp_edge.core.round_events import Participant
from fedlp_edge.errors import DeviceError, FedLPError, WorkerError
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import judging
from fedlp_edge.simulation.books import Books, Page
from fedlp_edge.simulation.course import Closing, Course, Extended, Opened, Waiting
from fedlp_edge.simulation.engine import Engine, Job, Stopped, carry_out, collect
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import make_fleet
from fedlp_edge.simulation.keepsakes import Keepsakes
from fedlp_edge.simulation.modes import compute_modes
from fedlp_edge.simulation.orders import DeviceGaveUp, DeviceTrained, PartEvaluated, Study, TrainDevice
from fedlp_edge.simulation.own_heads import judge_own_heads
from fedlp_edge.simulation.recovery import RecoveringEngine
from fedlp_edge.simulation.samples import Pictures, deal, read_pictures
from fedlp_edge.simulation.shift import Shift
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory


class Simulation:
    """One run of one experiment.

    Args:
        experiment: what to do.
        directory: of the run, locked.
        engine: does the work; it may serve other experiments afterwards.
        emit: takes every event of the run.
        stopped: asked now and then; once it says so, the run ends with ``Stopped`` and can go on later.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        engine: Engine,
        *,
        emit: Callable[[events.AnyEvent], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._experiment = experiment
        self._directory = directory
        self._stopped = stopped
        self._journal = Journal(directory.journal)
        self._books = Books(experiment, directory, self._journal, emit)
        self._engine: Engine = RecoveringEngine(engine, self._books.worker_died)
        self._checkpoints = Checkpoints(directory.checkpoints, _kept_checkpoints(experiment))
        self._keepsakes = Keepsakes(directory.path / "devices")
        self._published: set[int] = set()
        self._page: Page | None = None
        self._round_began = 0.0

    @property
    def round(self) -> int:
        """The round that a restart would go on with."""
        return self._books.committed + 1

    def run(self) -> Summary:
        """Runs to the end, from the start or from the last committed round.

        Raises:
            Stopped: it was asked to stop.
            FedLPError: data or model cannot be used, a worker ended, the disk is full.
        """
        began = time.monotonic()
        try:
            self._prepare()
            self._go()
            return self._books.finish(self._model.digest, time.monotonic() - began)
        except (Stopped, FedLPError):
            self._books.keep()
            raise
        finally:
            self._journal.close()

    def _prepare(self) -> None:
        experiment, committed = self._experiment, self._books.committed
        pictures = read_pictures(experiment.data.train, experiment.data.evaluate, experiment.model.input)
        self._test_samples = pictures.test_samples
        dealt = deal(experiment, pictures)
        self._blueprint, weights = self._engine.open(_study(experiment, pictures), pictures, dealt)
        fleet = make_fleet(experiment, self._blueprint, dealt)
        state = None
        if committed:
            weights, state = self._checkpoints.load(committed)
        else:
            self._checkpoints.save(0, weights, {})
        self._model = GlobalModel(
            self._blueprint, experiment.scheme, experiment.server, weights, state, seed=experiment.seed
        )
        self._publish(committed)
        self._held_depths = {device.depth for summary in self._books.summaries for device in summary.devices}
        modes = compute_modes(experiment, fleet, self._engine, self._directory.path / "compute.json", self._stopped)
        self._shift = Shift(experiment, self._blueprint, fleet, self._keepsakes, modes)
        for summary in self._books.summaries:
            for contributor in summary.devices:
                if contributor.id in fleet:
                    self._shift.note_compute(contributor.id, contributor.depth, contributor.compute)
        self._course = Course(experiment, fleet, self._assign)
        self._books.begin(self._blueprint, fleet, dealt, self._shift)
        if not any(device.plan.depth for device in fleet.values()):
            raise DeviceError("no device of the fleet can bear even depth 1: take larger profiles or a smaller model")

    def _go(self) -> None:
        done = self._books.committed
        self._round_began = time.monotonic()
        for step in self._course.steps():
            match step:
                case Closing(number) if number > done:
                    self._do(step)
                case Opened(number, devices) if number > done:
                    self._books.opened(number, devices)
                case Extended(number, contributors, quorum) if number > done:
                    self._books.extended(number, contributors, quorum)
                case Waiting(present, wanted) if self._course.round > done:
                    self._books.waiting(present, wanted)
                case _:
                    pass  # it was all done before the interruption
        self._work([])

    def _assign(self, round: int, place: Participant) -> Participant:
        """The rates of a place: as they were given, if the model that gave them has gone on since."""
        if round <= self._books.committed:
            return self._books.places(round)[place.device]
        return self._model.assign(round, place)

    def _do(self, closing: Closing) -> None:
        for version in {place.task_round(closing.round) - 1 for place in closing.contributors.values()}:
            self._make_known(version)
        page = Page(closing, {}, {})
        self._work(self._shift.jobs(closing), page)
        if len(page.trained) < self._experiment.rounds.quorum_of(len(closing.contributors)):
            raise WorkerError(f"round {closing.round}: {next(iter(page.failed.values()))}")
        self._settle(page)
        closing = page.closing
        self._step(closing)
        now = time.monotonic()
        page.seconds, self._round_began = now - self._round_began, now
        self._held_depths |= {place.depth for place in closing.given.values()}
        page.depths = self._judged_depths() if self._experiment.is_evaluated(closing.round) else ()
        self._page = page

    def _work(self, jobs: list[Job], page: Page | None = None) -> None:
        """Trains a round's devices, and judges the model of the round before and writes that round down."""
        for reply in carry_out(self._engine, chain(jobs, self._judging()), self._stopped):
            if isinstance(reply, PartEvaluated) and self._page is not None:
                self._page.judged.append(reply)
            elif isinstance(reply, DeviceTrained) and page is not None:
                self._trained(page, reply)
            elif isinstance(reply, DeviceGaveUp) and page is not None:
                page.failed[reply.device] = reply.reason
                self._books.gave_up(page.closing, reply.device, reply.reason)
        if self._page is not None:
            number = self._page.closing.round
            if number == self._experiment.rounds.count and self._page.depths:
                own = judge_own_heads(self._engine, self._shift, self._judged_version, number, self._stopped)
                self._page.own.extend(own)
            self._books.commit(self._page)
            self._checkpoints.prune(number)
            self._keepsakes.committed(number)
            self._page = None

    def _trained(self, page: Page, reply: DeviceTrained) -> None:
        if reply.own:
            self._keepsakes.keep(reply.device, reply.round, reply.own)
        if reply.device in page.closing.contributors:
            depth = page.closing.contributors[reply.device].depth
            self._shift.note_compute(reply.device, depth, reply.compute)
            page.trained[reply.device] = reply
            self._books.accepted(page.closing, reply)

    def _settle(self, page: Page) -> None:
        """Leaves out and weighs what a coordinator would; nearly always the sums are right as they are."""
        left_out, settled, before = self._leave_out_implausible(page), page.closing, page.closing
        if self._experiment.rounds.mode == "synchronous":
            settled = self._settled(page)
        heavier = settled.contributors != before.contributors
        if not left_out and not heavier and capacity_bits(settled.capacity) == capacity_bits(before.capacity):
            return
        page.closing = settled
        for _ in collect(self._engine, before.capacity):
            pass  # the sums of another scale, or with others in them
        jobs = [job for job in self._shift.jobs(settled) if self._counts(job, page)]
        for _ in carry_out(self._engine, jobs, self._stopped):
            pass  # the same updates as before

    def _leave_out_implausible(self, page: Page) -> bool:
        """Takes updates off the page that are far too large; returns whether there were any."""
        limit = self._experiment.limits.norm_ratio
        found = plausibility.deviations(self._blueprint.global_units, self._model.weights, _sizes(page))
        left_out = {device: times for device, times in sorted(found.items()) if limit and times > limit}
        for device, times in left_out.items():
            page.failed[device] = f"the update is {times:.3g} times as large as the others'"
            del page.trained[device]
            self._books.gave_up(page.closing, device, page.failed[device])
        return bool(left_out)

    def _settled(self, page: Page) -> Closing:
        """The round with the weights and the scale of those whose updates count (see ``RoundBook.settle``)."""
        units, closing = self._blueprint.global_units, page.closing
        places = {device: closing.contributors[device] for device in page.trained}
        weights = {device: min(page.trained[device].samples, place.weight) for device, place in places.items()}
        if limit := weight_limit(units, plausibility.sizes_of(units, self._model.weights), _sizes(page), weights):
            weights = {device: min(weight, limit.most) for device, weight in weights.items()}
            lighter = {d: replace(place, weight=min(place.weight, limit.most)) for d, place in places.items()}
            closing = dataclasses.replace(closing, contributors={**closing.contributors, **lighter})
        return dataclasses.replace(closing, capacity=capacity_of(weights.values()))

    def _counts(self, job: Job, page: Page) -> bool:
        return isinstance(job.order, TrainDevice) and job.order.counted and job.order.device in page.trained

    def _step(self, closing: Closing) -> None:
        """Takes the global model one round further."""
        shapes, statistics = self._blueprint.nested_shapes, self._blueprint.statistics
        mean = LayerwiseMean(closing.capacity, shapes, statistics)
        for sums in collect(self._engine, closing.capacity):
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
        """Makes the model after a round known, and what of it is judged."""
        self._engine.publish(round, self._model.weights)
        self._judged_version = round
        if self._experiment.server.ema:
            self._judged_version = -1 - round
            self._engine.publish(self._judged_version, self._model.evaluated)
        self._latest = {round, self._judged_version}
        self._published |= self._latest

    def _make_known(self, version: int) -> None:
        """An older model, from which some device started before an interruption of the run."""
        if version not in self._published:
            self._engine.publish(version, self._checkpoints.load(version)[0])
            self._published.add(version)

    def _judged_depths(self) -> tuple[int, ...]:
        """Exits worth judging: those that some device trained, and the full model."""
        full = self._blueprint.full_depth
        if self._blueprint.heads == "personal":
            return (full,)
        if self._blueprint.widths:
            return tuple(sorted(self._held_depths | {full}))
        heads = {u.depth for depth in self._held_depths for u in self._blueprint.held_by(depth) if u.kind == "head"}
        return tuple(sorted(heads | {full}))

    def _judging(self) -> list[Job]:
        if self._page is None or not self._page.depths:
            return []
        macs = self._blueprint.costs[max(self._page.depths) - 1].forward_macs
        return judging.parts(self._judged_version, self._page.depths, self._test_samples, macs)


def _sizes(page: Page) -> dict[str, plausibility.Sizes]:
    return {device: reply.sizes for device, reply in page.trained.items()}


def _study(experiment: Experiment, pictures: Pictures) -> Study:
    return Study(
        model=experiment.model,
        seed=experiment.seed,
        training=experiment.training,
        uniform=experiment.scheme.weights == "uniform",
        freeze=experiment.scheme.prune == "train",
        classes=pictures.classes,
        scale=pictures.scale,
        mean=pictures.mean,
        std=pictures.std,
    )


def _kept_checkpoints(experiment: Experiment) -> int:
    """How many stay on disk: of models from which devices may still start, and may have to again, all."""
    rounds = experiment.rounds
    if not rounds.keep_checkpoints or rounds.mode == "synchronous":
        return rounds.keep_checkpoints
    return max(rounds.keep_checkpoints, rounds.max_staleness + 2)
