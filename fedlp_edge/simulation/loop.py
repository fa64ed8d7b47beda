"""A simulated run: the round machine of the real coordinator on a virtual clock, with virtual devices.

One round from top to bottom: ``_open`` (places and expected deliveries), ``_close`` (the devices that deliver in time
are trained, sums merged, the server's step, checkpoint), ``_commit`` (verdict, summary, journal). The new model is
judged while the next round trains: nothing that is learned depends on the verdict, and no worker waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from fedlp_edge.core import rounds
from fedlp_edge.core.aggregation import LayerwiseMean
from fedlp_edge.core.global_model import GlobalModel
from fedlp_edge.core.prediction import BACKWARD_AND_FORWARD
from fedlp_edge.core.selection import retained
from fedlp_edge.errors import DeviceError, WorkerError
from fedlp_edge.reporting import events
from fedlp_edge.reporting.ledger import Delivery, coverage, device_round
from fedlp_edge.reporting.summary import FinalModel, RoundSummary, Summary, save
from fedlp_edge.simulation import clock, judging
from fedlp_edge.simulation.engine import Engine, Job, Stopped, carry_out, collect
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import make_fleet
from fedlp_edge.simulation.keepsakes import Keepsakes
from fedlp_edge.simulation.orders import DeviceGaveUp, DeviceTrained, PartEvaluated, Study, TrainDevice
from fedlp_edge.simulation.samples import deal, read_pictures
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory

MOST_ATTEMPTS = 1000
"""Of a round for which too few devices are there, or deliver; a fleet that never gets together ends with an error."""

SAVE_SECONDS = 5.0
"""How often ``summary.json`` is brought up to date while a run goes on; a run of many short rounds would otherwise
write little else."""


@dataclass
class _OpenRound:
    """The round that devices work for.

    Attributes:
        opened: with all its places.
        began: virtual time of the opening.
        dropped: who never delivers.
        attempts: how often devices were asked.
    """

    opened: rounds.OpenRound
    began: float
    places: dict[str, rounds.Participant]
    capacity: int
    dropped: set[str] = field(default_factory=set)
    attempts: int = 0


@dataclass
class _Closed:
    """A round whose model is there and not judged yet."""

    summary: RoundSummary
    places: tuple[rounds.Participant, ...]
    capacity: int
    depths: tuple[int, ...]
    judged: list[PartEvaluated] = field(default_factory=list)


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
        self._engine = engine
        self._emit = emit
        self._stopped = stopped
        self._checkpoints = Checkpoints(directory.checkpoints, experiment.rounds.keep_checkpoints)
        self._keepsakes = Keepsakes(directory.path / "devices")
        self._timeline = clock.Timeline()
        self._effects: deque[rounds.Effect] = deque()
        self._ready: set[str] = set()
        self._waits = 0
        self._open_round: _OpenRound | None = None
        self._closed: _Closed | None = None
        self._saved = 0.0

    def run(self) -> Summary:
        """Runs to the end, from the start or from the last committed round.

        Raises:
            Stopped: it was asked to stop.
            FedLPError: data or model cannot be used, a worker ended, the disk is full.
        """
        began = time.monotonic()
        self._journal = Journal(self._directory.journal)
        try:
            self._prepare()
            self._loop()
        finally:
            self._journal.close()
        return self._finish(time.monotonic() - began)

    @property
    def round(self) -> int:
        """The round that a restart would go on with."""
        return self._summaries[-1].round + 1 if getattr(self, "_summaries", None) else 1

    # Start

    def _prepare(self) -> None:
        experiment = self._experiment
        pictures = read_pictures(experiment.data.train, experiment.data.evaluate)
        self._deal = deal(experiment, pictures)
        self._test_samples = pictures.test_samples
        study = Study(
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
        self._blueprint, initial = self._engine.open(study, pictures, self._deal)
        self._fleet = make_fleet(experiment, self._blueprint, self._deal)
        self._summaries = [msgspec.json.decode(row, type=RoundSummary) for row in self._journal.summaries()]
        committed = self._summaries[-1].round if self._summaries else 0
        if self._summaries:
            weights, state = self._checkpoints.load(committed)
        else:
            weights, state = initial, {}
            self._checkpoints.save(0, weights, state)
        self._model = GlobalModel(
            self._blueprint, experiment.scheme, experiment.server, weights, state, seed=experiment.seed
        )
        self._version = committed
        self._judged_version = committed
        self._engine.publish(self._version, self._model.weights)
        self._held_depths = {device.depth for summary in self._summaries for device in summary.devices}
        self._round_began = time.monotonic()
        self._introduce(committed + 1 if self._summaries else None)

    def _introduce(self, resumed_at: int | None) -> None:
        experiment, now = self._experiment, time.time()
        self._emit(
            events.RunStarted(
                time=now,
                run=experiment.run_name,
                fleet=experiment.name,
                model=experiment.model.name,
                depths=self._blueprint.full_depth,
                parameters=self._blueprint.costs[-1].parameters,
                rounds=experiment.rounds.count,
                resumed_at=resumed_at,
            )
        )
        for device in self._fleet.values():
            plan = device.plan
            if not plan.depth:
                self._emit(events.DeviceUnfit(time=now, device=device.id, explanation=plan.explanation))
                continue
            self._emit(
                events.DeviceJoined(
                    time=now,
                    device=device.id,
                    profile=device.profile,
                    samples=device.participant.samples,
                    depth=plan.depth,
                    lpr=plan.lpr,
                    explanation=plan.explanation,
                )
            )
        if not any(device.plan.depth for device in self._fleet.values()):
            raise DeviceError("no device of the fleet can bear even depth 1: take larger profiles or a smaller model")

    # The loop

    def _loop(self) -> None:
        following = self._version + 1
        present = self._present(following)
        # Those who are there are waited for, so that the first cohort is drawn from all of them.
        settings = msgspec.structs.replace(self._experiment.rounds, rejoin_seconds=1.0)
        self._machine = rounds.RoundMachine(
            settings, self._experiment.seed, now=0.0, next_round=following, expected=frozenset(present)
        )
        self._gather(present)
        while self._machine.phase is not rounds.Phase.FINISHED:
            if self._effects:
                self._carry_out(self._effects.popleft())
                continue
            if self._stopped():
                raise Stopped
            if self._machine.phase is rounds.Phase.WAITING:
                self._wait_for_more()
                continue
            device = self._timeline.advance(self._machine.wake_at())
            self._tell(rounds.Tick() if device is None else rounds.UpdateArrived(device))
        self._judge_last()

    def _tell(self, event: rounds.Event) -> None:
        self._effects.extend(self._machine.handle(event, self._timeline.now))

    def _present(self, round: int, attempt: int = 0) -> list[str]:
        """Devices that are there when a round opens."""
        settings, seed = self._experiment.fleet, self._experiment.seed
        return [
            device.id
            for device in self._fleet.values()
            if device.plan.depth and clock.is_there(settings, seed, round, device.id, attempt)
        ]

    def _gather(self, present: list[str]) -> None:
        """Devices come and go."""
        for device in sorted(self._ready - set(present)):
            self._tell(rounds.DeviceGone(device))
        for device in present:
            if device not in self._ready:
                self._tell(rounds.DeviceReady(self._fleet[device].participant))
        self._ready = set(present)

    def _carry_out(self, effect: rounds.Effect) -> None:
        match effect:
            case rounds.OpenRound():
                self._open(effect)
            case rounds.ExtendRound():
                self._extend(effect)
            case rounds.SendTask(_, device):
                self._expect(device)
            case rounds.CloseRound():
                self._close(effect)
            case _:
                pass  # whether devices are lacking, or the run is over, the loop sees by the machine's phase

    # One round

    def _open(self, opened: rounds.OpenRound) -> None:
        places = {p.device: self._model.assign(opened.round, p) for p in opened.participants}
        self._open_round = _OpenRound(opened, self._timeline.now, places, opened.weight_capacity)
        self._timeline.forget()
        self._waits = 0
        self._emit(
            events.RoundStarted(
                time=time.time(),
                round=opened.round,
                devices=tuple(places),
                deadline_seconds=self._experiment.rounds.deadline_seconds,
            )
        )
        for device in places:
            self._expect(device)

    def _extend(self, extended: rounds.ExtendRound) -> None:
        current = self._current()
        current.attempts += 1
        if current.attempts > MOST_ATTEMPTS:
            raise DeviceError(
                f"round {extended.round} got {extended.contributors} of {extended.quorum} updates in "
                f"{MOST_ATTEMPTS} deadlines: lengthen [rounds] deadline_seconds, or lower quorum or [fleet] dropout"
            )
        self._emit(
            events.RoundFailed(
                time=time.time(), round=extended.round, contributors=extended.contributors, quorum=extended.quorum
            )
        )
        current.places.update({p.device: self._model.assign(extended.round, p) for p in extended.added})
        current.capacity = extended.weight_capacity
        for place in extended.added:
            self._expect(place.device)

    def _expect(self, device: str) -> None:
        """A device has its task (again) and delivers in its time, unless it drops out."""
        current, settings = self._current(), self._experiment.fleet
        if clock.drops_out(settings, self._experiment.seed, current.opened.round, device, current.attempts):
            current.dropped.add(device)
            return
        current.dropped.discard(device)
        self._timeline.expect(device, clock.seconds_for(self._fleet[device]))

    def _close(self, closing: rounds.CloseRound) -> None:
        current = self._current()
        self._timeline.forget()
        trained, failed = self._work(current, set(closing.contributors))
        quorum = len(closing.contributors) - len(failed)
        if not trained or quorum < self._experiment.rounds.quorum * len(current.places):
            raise WorkerError(f"round {closing.round}: {next(iter(failed.values()))}")
        shapes = self._blueprint.nested_shapes
        mean = LayerwiseMean(current.capacity, shapes)
        for sums in collect(self._engine, current.capacity):
            mean.merge(LayerwiseMean.from_arrays(sums, current.capacity, shapes))
        self._model.step(closing.round, mean)
        self._publish(closing.round)
        self._checkpoints.save(closing.round, self._model.weights, self._model.state)
        now = time.monotonic()
        self._closed = _Closed(
            summary=self._summarised(current, trained, failed, now - self._round_began),
            places=tuple(current.places.values()),
            capacity=current.capacity,
            depths=self._judged_depths(current) if self._experiment.is_evaluated(closing.round) else (),
        )
        self._round_began = now
        self._open_round = None
        if closing.round < self._experiment.rounds.count:
            self._gather(self._present(closing.round + 1))
        self._tell(rounds.RoundCommitted(closing.round))

    def _work(self, current: _OpenRound, contributors: set[str]) -> tuple[dict[str, DeviceTrained], dict[str, str]]:
        """Trains the round's devices and judges the model of the round before.

        Returns:
            By device, what those did that delivered, and why others that should have could not.
        """
        number = current.opened.round
        places = [place for place in current.places.values() if place.device in contributors]
        # Who comes too late has still trained its own head.
        late = [p for p in current.places.values() if p.device not in contributors | current.dropped]
        late = [p for p in late if self._keeps_own(p.depth)]
        jobs = [self._job(current, place, counted=True) for place in places]
        jobs += [self._job(current, place, counted=False) for place in late]
        trained: dict[str, DeviceTrained] = {}
        failed: dict[str, str] = {}
        for reply in carry_out(self._engine, chain(jobs, self._judging()), self._stopped):
            if isinstance(reply, DeviceTrained):
                if reply.own:
                    self._keepsakes.keep(reply.device, number, reply.own)
                if reply.device in contributors:
                    trained[reply.device] = reply
                    self._emit(self._accepted(current, reply))
            elif isinstance(reply, DeviceGaveUp):
                failed[reply.device] = reply.reason
                self._emit(
                    events.DeviceFailed(time=time.time(), round=number, device=reply.device, reason=reply.reason)
                )
            elif isinstance(reply, PartEvaluated) and self._closed is not None:
                self._closed.judged.append(reply)
        self._commit()
        return trained, failed

    def _job(self, current: _OpenRound, place: rounds.Participant, *, counted: bool) -> Job:
        training = self._experiment.training
        persist = self._experiment.scheme.personal_heads == "persist" and self._keeps_own(place.depth)
        order = TrainDevice(
            number=self._fleet[place.device].number,
            device=place.device,
            round=current.opened.round,
            version=self._version,
            capacity=current.capacity,
            depth=place.depth,
            retained=self._drawn(current, place),
            encoding=place.encoding,
            own=self._keepsakes.before(place.device, current.opened.round) if persist else b"",
            counted=counted,
        )
        macs = self._blueprint.costs[place.depth - 1].forward_macs
        return Job(order, cost=float(BACKWARD_AND_FORWARD * macs * place.samples * training.epochs))

    def _keeps_own(self, depth: int) -> bool:
        return len(self._blueprint.held_by(depth)) > len(self._blueprint.exchanged_by(depth))

    def _drawn(self, current: _OpenRound, place: rounds.Participant) -> dict[str, tuple[str, ...]]:
        return retained(
            self._blueprint.exchanged_by(place.depth),
            lpr=place.lpr,
            lpr_of=place.lpr_of,
            seed=self._experiment.seed,
            round=current.opened.round,
            device=place.device,
            granularity=self._experiment.scheme.granularity,
        )

    def _publish(self, round: int) -> None:
        """Replaces the weights; the version before has been trained from and judged by now."""
        before = {self._version, self._judged_version}
        self._version = self._judged_version = round
        self._engine.publish(round, self._model.weights)
        if self._experiment.server.ema:
            self._judged_version = -round
            self._engine.publish(self._judged_version, self._model.evaluated)
        for version in before:
            self._engine.retire(version)

    # Verdict and books

    def _judged_depths(self, current: _OpenRound) -> tuple[int, ...]:
        """Exits worth judging: those that some device trained, and the full model; see the coordinator."""
        self._held_depths |= {place.depth for place in current.places.values()}
        full = self._blueprint.full_depth
        if self._blueprint.heads == "personal":
            return (full,)
        if self._blueprint.widths:
            return tuple(sorted(self._held_depths | {full}))
        heads = {u.depth for depth in self._held_depths for u in self._blueprint.held_by(depth) if u.kind == "head"}
        return tuple(sorted(heads | {full}))

    def _judging(self) -> list[Job]:
        if self._closed is None or not self._closed.depths:
            return []
        macs = self._blueprint.costs[max(self._closed.depths) - 1].forward_macs
        return judging.parts(self._judged_version, self._closed.depths, self._test_samples, macs)

    def _judge_last(self) -> None:
        if self._closed is None:
            return
        for reply in carry_out(self._engine, self._judging(), self._stopped):
            if isinstance(reply, PartEvaluated):
                self._closed.judged.append(reply)
        self._commit()

    def _commit(self) -> None:
        """Ends the round before for good, now that its model is judged."""
        if self._closed is None:
            return
        closed, self._closed = self._closed, None
        said = judging.verdict(closed.judged)
        depths = {device.id: device.plan.depth for device in self._fleet.values()}
        numbers = {device.id: device.number for device in self._fleet.values()}
        summary = msgspec.structs.replace(
            closed.summary,
            accuracy=said.accuracy,
            loss=said.loss,
            # Levels of one width-scaled model are no exits that could answer together.
            ensemble=said.ensemble if len(said.ensemble) > 1 and not self._blueprint.widths else {},
            tiers=judging.by_tier(said, depths, numbers, self._deal.priors),
        )
        self._journal.open_round(summary.round, closed.capacity, closed.places)
        self._journal.commit_round(summary.round, msgspec.json.encode(summary))
        self._summaries.append(summary)
        self._checkpoints.prune(summary.round)
        self._keepsakes.committed(summary.round)
        self._emit(
            events.RoundFinished(
                time=time.time(),
                round=summary.round,
                seconds=summary.seconds,
                accuracy=summary.accuracy,
                contributors=sum(device.status == "contributed" for device in summary.devices),
                lost=tuple(device.id for device in summary.devices if device.status == "lost"),
                bytes_down=sum(device.bytes_down for device in summary.devices),
                bytes_up=sum(device.bytes_up for device in summary.devices),
            )
        )
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._saved = time.monotonic()
            save(self._summary(final=False), self._directory.summary)

    def _accepted(self, current: _OpenRound, reply: DeviceTrained) -> events.UpdateAccepted:
        return events.UpdateAccepted(
            time=time.time(),
            round=reply.round,
            device=reply.device,
            layers_sent=tuple(self._drawn(current, current.places[reply.device])),
            samples=reply.samples,
            loss=reply.loss,
            seconds=reply.seconds,
            bytes_up=reply.bytes_up,
        )

    def _summarised(
        self, current: _OpenRound, trained: dict[str, DeviceTrained], failed: dict[str, str], seconds: float
    ) -> RoundSummary:
        uniform = self._experiment.scheme.weights == "uniform"
        lines, sent = [], {}
        for name, place in sorted(current.places.items()):
            units = self._blueprint.exchanged_by(place.depth)
            nbytes = sum(unit.nbytes for unit in units)
            profile = self._fleet[name].profile
            done = trained.get(name)
            if done is None:
                lines.append(device_round(place, profile, units, "failed" if name in failed else "lost"))
                continue
            kept = self._drawn(current, place)
            weight = 1 if uniform else done.samples
            delivery = Delivery(kept, done.samples, weight, done.loss, done.seconds, nbytes, done.bytes_up)
            sent[name] = (kept.keys(), weight)
            lines.append(device_round(place, profile, units, delivery))
        return RoundSummary(
            round=current.opened.round,
            seconds=seconds,
            accuracy={},
            devices=tuple(lines),
            coverage=coverage(self._blueprint, sent),
            virtual_seconds=self._timeline.now - current.began,
        )

    def _summary(self, *, final: bool) -> Summary:
        accuracy = self._summaries[-1].accuracy if self._summaries else {}
        return Summary(
            run=self._experiment.run_name,
            fleet=self._experiment.name,
            model=self._experiment.model.name,
            rounds=tuple(self._summaries),
            final=FinalModel(accuracy=accuracy, model_digest=self._model.digest) if final else None,
        )

    def _finish(self, seconds: float) -> Summary:
        summary = self._summary(final=True)
        save(summary, self._directory.summary)
        self._emit(
            events.RunFinished(
                time=time.time(),
                rounds=len(summary.rounds),
                accuracy=self._summaries[-1].accuracy,
                model_digest=self._model.digest,
                seconds=seconds,
            )
        )
        return summary

    def _wait_for_more(self) -> None:
        """Too few devices are there: time passes until another draw of who is."""
        self._waits += 1
        if self._waits > MOST_ATTEMPTS:
            raise DeviceError(
                "too few devices are ever there at once: lower [rounds] min_devices, or raise [fleet] availability"
            )
        wanted = self._experiment.rounds.min_devices
        self._emit(events.Waiting(time=time.time(), present=len(self._ready), wanted=wanted))
        self._timeline.now += 1.0
        self._gather(self._present(self._machine.round, self._waits))
        self._tell(rounds.Tick())

    def _current(self) -> _OpenRound:
        if self._open_round is None:
            raise ValueError("no round is open")
        return self._open_round
