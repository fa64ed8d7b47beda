"""Carries out the rounds: what the state machine decides becomes tasks, averages and checkpoints.

One round from top to bottom: ``_open`` (tasks and model go out), ``offered`` and ``chunk`` (updates come in),
``_close`` (average, server step, the new model on its way), ``_saved`` (evaluation), ``_commit``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from coordinator.background import Background
from coordinator.config import FleetConfig
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.fleet.link_rates import Links
from coordinator.rounds.attendance import Attendance
from coordinator.rounds.round_check import RoundCheck
from coordinator.rounds.round_updates import RoundUpdates, UpdateVerdict
from coordinator.rounds.tasks import Tasks
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.messenger import ControlMessenger
from coordinator.transfer.model_server import ModelServer
from coordinator.transfer.uploads import CompletedUpload, UploadScheduler
from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.rounds import events as round_events
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.errors import DeviceError, RejectedUpdateError, StorageError
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import Purpose, RoundSummary, Traffic
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.admission import RejectionReason
from fedlp_edge.wire.chunks import Chunk
from fedlp_edge.wire.messages import Failure, Offer
from fedlp_edge.worker.jobs import Evaluate, Evaluated
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger("fedlp.coordinator")

EARLY_ROUNDS = 3
"""Before this many a model that judges like a guess is nothing to wonder at."""

NAMED = 4
"""Devices that a line names before it only counts."""

_OF_VALUES = (RejectionReason.NOT_FINITE, RejectionReason.VALUE, RejectionReason.NORM)
"""Refusals of what a device has computed, not of how it was sent."""


class RoundController:
    """The rounds of a run.

    Args:
        config: of the fleet.
        run: its name.
        blueprint: of the model.
        directory: of the run.
        journal: of the run.
        checkpoints: of the run.
        messenger: to the devices.
        model_server: serves the model.
        chunk_bytes: payload bytes of a chunk of an update.
        flow: how much may be under way.
        links: of the devices.
        worker: evaluates.
        background: writes checkpoints and removes files.
        emit: takes events.
        clock: monotonic seconds.
        profiles: name of each known device's profile; kept up to date by the caller.
        classes: their numbers in the fleet.
        bases: what each known device's fitness rests on; likewise.
        finished: called once the last round is committed.

    Attributes:
        last: summary of the round that was committed last; those before it are in the journal alone.
        attendance: what became of each device.
    """

    def __init__(
        self,
        *,
        config: FleetConfig,
        run: str,
        blueprint: Blueprint,
        directory: RunDirectory,
        journal: Journal,
        checkpoints: Checkpoints,
        messenger: ControlMessenger,
        model_server: ModelServer,
        chunk_bytes: int,
        flow: FlowLimits,
        links: Links,
        worker: WorkerProcess,
        background: Background,
        emit: Callable[[events.AnyEvent], None],
        clock: Callable[[], float],
        profiles: Mapping[str, str],
        classes: FleetClasses,
        bases: Mapping[str, str],
        finished: Callable[[], None],
    ) -> None:
        self._config = config
        self._run = run
        self._blueprint = blueprint
        self._directory = directory
        self._journal = journal
        self._checkpoints = checkpoints
        self._messenger = messenger
        self._model_server = model_server
        self._tasks = Tasks(
            config=config,
            run=run,
            blueprint=blueprint,
            messenger=messenger,
            model_server=model_server,
            chunk_bytes=chunk_bytes,
            listeners=lambda: len(profiles),
        )
        self._worker = worker
        self._background = background
        self._emit = emit
        self._clock = clock
        self._profiles = profiles
        self._classes = classes
        self._bases = bases
        self._finished = finished
        self._uploads = UploadScheduler(chunk_bytes, messenger.tell, credit=flow.credit, links=links)
        self._updates: RoundUpdates | None = None
        self._began = clock()
        self._evaluation: int | None = None
        self._doubted = False
        self._lost: tuple[str, ...] = ()
        self._traffic: dict[Purpose, Traffic] = {}
        self.last: RoundSummary | None = None
        self._held_depths: set[int] = set()
        self.attendance = Attendance(profiles, self.fitness)
        self._bounded: set[str] = set()
        for row in journal.summaries():
            self.last = msgspec.json.decode(row, type=RoundSummary)
            self.attendance.committed(self.last)
            self._held_depths.update(device.depth for device in self.last.devices)
        committed = self.last.round if self.last else 0
        weights, state = self._checkpoints.load(committed)
        self._model = GlobalModel(
            blueprint, config.scheme, config.server, weights, state, update=config.update, seed=config.seed
        )
        self._check = RoundCheck(self._model, config.limits.norm_ratio, self._withdrawn)
        model_server.put_constants(blueprint, self._model.constants)
        model_server.put_weights(blueprint, self._model.weights)
        self._machine = make_round_machine(
            config.rounds,
            config.seed,
            now=clock(),
            next_round=committed + 1,
            expected=journal.ready_devices(),
            fitness={device: fitness for device, (_, fitness) in journal.fitness().items()},
        )

    # What the service asks

    @property
    def round(self) -> int:
        """The open round, or the one that will open next."""
        return self._machine.round

    @property
    def all_committed(self) -> bool:
        """Whether no round is left to do."""
        return self._machine.phase is round_events.Phase.FINISHED

    @property
    def final_weights(self) -> Mapping[str, Array]:
        """What is judged, exported and handed to devices at the end: the running average, if the run keeps one."""
        return self._model.evaluated

    @property
    def digest(self) -> str:
        """Of the global model as it stands."""
        return self._model.digest

    @property
    def useful_depths(self) -> tuple[int, ...]:
        """Depths worth evaluating and exporting: those that some device trains, and the full model.

        Personal heads are not here, so only the full model is then left. An exit that no device ever held
        still has the numbers it was born with.
        """
        full = self._blueprint.full_depth
        if self._blueprint.heads == "personal":
            return (full,)
        return tuple(sorted(self._held_depths | {full}))

    def fitness(self, device: str) -> Fitness:
        """Whether a device can be counted on."""
        return self._machine.fitness(device)

    def awaits(self, device: str, round: int) -> bool:
        """Whether the update of a device for its task of a round is still wanted."""
        return self._machine.member(device, round) is not None

    def next_wakeup(self) -> float | None:
        """When ``tick`` has something to do at the latest."""
        return self._machine.next_wakeup()

    # What happens

    def resume(self) -> None:
        """Takes up the round that was open when the coordinator ended, if there was one."""
        opened = self._journal.unfinished_round()
        if opened is not None and opened.round == self._machine.round:
            updates = self._begin(opened)
        elif self._overlapping and self._machine.round > 1 and not self.all_committed:
            committed = self._machine.round - 1
            opened = round_events.OpenRound(committed, self._journal.places(committed), 1)
            updates = self._updates = self._new_updates(opened, closed=True)
        else:
            self._directory.clear_spool()  # it may have ended between the commit and the clearing
            return
        updates.replay()
        arrived, early = frozenset(updates.accepted), frozenset(updates.early)
        log.info("round %d goes on: %d of %d updates are here", self.round, len(arrived), len(opened.cohort))
        self._machine.resume(opened, arrived, self._clock(), missed=updates.given_up - arrived, early=early)

    def step(self, event: round_events.Event) -> None:
        """Hands an event to the state machine and carries out what it decides."""
        for effect in self._machine.handle(event, self._clock()):
            self._carry_out(effect)

    def tick(self) -> None:
        """Lets time pass."""
        now = self._clock()
        self._uploads.tick(now)
        wake = self._machine.next_wakeup()
        if wake is not None and now >= wake:
            self.step(round_events.TimePassed())

    def offered(self, offer: Offer) -> None:
        """A device has an update (again)."""
        wanted = self._machine.member(offer.device, offer.round) if offer.run == self._run else None
        if wanted is None or self._updates is None:
            self._answer_late(offer)
            return
        try:
            self._updates.check(offer)
        except RejectedUpdateError as error:
            self._reject(offer, error)
            return
        path = self._directory.spool / f"{offer.device}.part"
        if whole := self._uploads.offer(offer, path, self._clock()):
            self._take(whole)

    def chunk(self, device: str, payload: bytes) -> None:
        """A part of an update came in.

        Raises:
            PeerError: it is no chunk.
        """
        self._messenger.count("update", len(payload))
        if whole := self._uploads.chunk(device, Chunk.parse(payload), len(payload), self._clock()):
            self._take(whole)

    def delivered(self, token: int) -> None:
        """The broker has taken a message to a device, which may be a grant."""
        self._uploads.delivered(token, self._clock())

    def failed(self, failure: Failure, fault: DeviceFault | None) -> None:
        """A device gave up its task, or could not even hold its submodel.

        Args:
            failure: in its words.
            fault: what that says about its next task; None if nothing.
        """
        if failure.round is None:
            if fault is not None:
                self.step(round_events.DeviceUnable(failure.device, fault, failure.reason))
        elif self._updates and self.awaits(failure.device, failure.round):
            self._updates.give_up(
                failure.device, failure.round, "", UpdateVerdict("failed", failure.reason, failure.bytes_down)
            )
            self.step(round_events.UpdateMissed(failure.device, fault, failure.reason))

    def outdated(self, device: str) -> None:
        """A device asks for a model that is no longer served: it gets a task with the one that is."""
        self.step(round_events.ModelOutdated(device))

    def evaluated(self, job: int, result: Evaluated) -> None:
        """The worker has measured the new model."""
        if job == self._evaluation:
            self._evaluation = None
            updates = self._current()
            # Of a class that the data lack, an honest device may be the only one that has samples: the more it teaches
            # the model to answer that class, the worse the model looks on samples of the others.
            judged = result.known_loss or result.loss
            loss = {depth: math.inf if value is None else value for depth, value in judged.items()}
            if self._check.spoilt(updates, loss, self._blueprint.classes):
                self._put(updates)
            else:
                self._commit(result)

    # What is decided

    def _carry_out(self, effect: round_events.Effect) -> None:
        match effect:
            case round_events.OpenRound(round, cohort, capacity):
                self._open(round_events.OpenRound(round, tuple(map(self._assigned, cohort)), capacity))
            case round_events.AddPlaces():
                self._add_places(effect.added, effect.weight_capacity)
            case round_events.ExtendRound():
                self._extend(effect)
            case round_events.SendTask(_, device):
                self._repeat_task(device)
            case round_events.CloseRound():
                self._close(effect)
            case round_events.TooFewDevices(present, wanted):
                self._emit(events.WaitingForDevices(time=time.time(), present=present, wanted=wanted))
            case round_events.FitnessChanged(device, fitness):
                self._note_fitness(device, fitness)
            case round_events.NoDeviceFit(reasons, seconds):
                self._nobody_fit(reasons, seconds)
            case round_events.FinishRun():
                self._uploads.clear()
                self._background.do(self._directory.clear_spool)
                self._finished()
            case _:
                assert_never(effect)

    def _note_fitness(self, device: str, fitness: Fitness) -> None:
        self._journal.put_fitness(device, self._bases.get(device, ""), fitness)
        now, reason = time.time(), fitness.reason
        if fitness.lasting:
            log.warning("%s cannot take part: %s", device, reason)
            self._emit(events.DeviceUnfit(time=now, device=device, explanation=reason))
        elif fitness.out:
            log.warning("%s is set aside after %d failures in a row: %s", device, fitness.failures, reason)
            self._emit(
                events.DeviceSetAside(
                    time=now, device=device, failures=fitness.failures, again=fitness.round, reason=reason
                )
            )

    def _nobody_fit(self, reasons: Mapping[str, str], seconds: float) -> None:
        words = _why_nobody(reasons)
        if not seconds:
            raise DeviceError(words)
        log.warning("%s; the run ends in %.0f s unless that changes", words, seconds)
        self._emit(events.NobodyFit(time=time.time(), explanation=words, seconds=seconds))

    @property
    def _overlapping(self) -> bool:
        """Whether a round may count tasks of earlier ones."""
        return self._config.rounds.mode == "buffered"

    def _new_updates(self, opened: round_events.OpenRound, *, closed: bool = False) -> RoundUpdates:
        return RoundUpdates(
            opened,
            run=self._run,
            seed=self._config.seed,
            blueprint=self._blueprint,
            scheme=self._config.scheme,
            rounds=self._config.rounds,
            directory=self._directory,
            journal=self._journal,
            limits=self._config.limits,
            closed=closed,
        )

    def _begin(self, opened: round_events.OpenRound) -> RoundUpdates:
        self._updates = self._new_updates(opened)
        self._tell_of_bounds(opened.cohort)
        self._note_depths(opened.cohort)
        self._began = self._clock()
        self._messenger.announce("running")
        self._emit(
            events.RoundStarted(
                time=time.time(),
                round=opened.round,
                devices=tuple(dict.fromkeys(place.device for place in self._updates.places)),
                deadline_seconds=self._config.rounds.deadline_seconds,
            )
        )
        return self._updates

    def _open(self, opened: round_events.OpenRound) -> None:
        self._journal.open_round(opened.round, opened.weight_capacity, opened.cohort)
        updates = self._begin(opened)
        if self._overlapping:
            updates.replay()  # what came early for it
        self._give_tasks([place for place in opened.cohort if place.task_round(opened.round) == opened.round])

    def _extend(self, extension: round_events.ExtendRound) -> None:
        have, need = extension.contributors, extension.quorum
        log.warning("round %d has %d updates and needs %d; it waits once more", extension.round, have, need)
        self._emit(events.RoundFailed(time=time.time(), round=extension.round, contributors=have, quorum=need))
        self._add_places(extension.added, extension.weight_capacity)

    def _assigned(self, place: round_events.CohortMember) -> round_events.CohortMember:
        """The place with the rates of its units: those that it was given before, or new ones."""
        number = self._machine.round
        if place.task_round(number) == number:
            return self._model.assign(number, place)
        return (self._updates and self._updates.place(place.device, place.round)) or place

    def _add_places(self, added: tuple[round_events.CohortMember, ...], capacity: int) -> None:
        if self._updates:
            self._updates.extend(tuple(map(self._assigned, added)), capacity)
            self._note_depths(added)
        self._give_tasks(added)

    def _tell_of_bounds(self, places: Sequence[round_events.CohortMember]) -> None:
        """Says once of whom what he says of his samples is not believed."""
        for place in places:
            if (
                place.weight < place.samples
                and self._config.scheme.weights == "samples"
                and place.device not in self._bounded
            ):
                self._bounded.add(place.device)
                log.warning("%s says that it has %d samples, far more than others: it counts as %d at most "
                            "([rounds] max_sample_ratio)", place.device, place.samples, place.weight)  # fmt: skip

    def _note_depths(self, cohort: tuple[round_events.CohortMember, ...]) -> None:
        self._held_depths |= {place.depth for place in cohort}
        full = self._blueprint.full_depth
        if full not in self._held_depths:
            log.warning("no device is large enough for depth %d: the full model's last layers stay untrained", full)

    def _give_tasks(self, places: Sequence[round_events.CohortMember]) -> None:
        if self._updates:
            given = [place for p in places if (place := self._updates.place(p.device, self._updates.round))]
            self._tasks.give(self._updates.round, given, self._machine.seconds_left(self._clock()))

    def _repeat_task(self, device: str) -> None:
        place = self._updates and self._updates.place(device, self._updates.round)
        if self._updates and place:
            self._tasks.tell(self._updates.round, place, self._machine.seconds_left(self._clock()))

    def _take(self, whole: CompletedUpload) -> None:
        """All bytes of an update are here."""
        offer = whole.offer
        if self._updates is None or not self._machine.member(offer.device, offer.round):
            whole.path.unlink(missing_ok=True)
            self._answer_late(offer)
            return
        try:
            counts_in = self._machine.counts_in(offer.device)
            update = self._updates.accept(offer, whole.path, whole.bytes_seen, counts_in)
        except RejectedUpdateError as error:
            whole.path.unlink(missing_ok=True)
            self._reject(offer, error)
            return
        except OSError as error:
            raise StorageError(f"cannot keep an update in {self._directory.spool}: {error}") from error
        self._messenger.receipt(offer, "accepted")
        self._emit(
            events.UpdateAccepted(
                time=time.time(),
                round=offer.round,
                device=offer.device,
                layers_sent=tuple(part.unit for part in offer.units),
                samples=offer.samples,
                loss=offer.loss,
                seconds=offer.seconds,
                bytes_up=update.bytes_up,
                peak_memory=offer.peak_memory,
            )
        )
        self.step(round_events.UpdateArrived(offer.device))

    def _answer_late(self, offer: Offer) -> None:
        verdict = None
        if self._updates and offer.run == self._run:
            verdict = self._updates.verdict(offer.device, offer.round)
        if verdict is None:
            self._messenger.receipt(offer, "stale", "that round is over")
        elif verdict.status == "contributed":
            self._messenger.receipt(offer, "accepted")
        else:
            self._messenger.receipt(offer, "rejected", verdict.reason)

    def _reject(self, offer: Offer, error: RejectedUpdateError) -> None:
        log.warning("rejected the update of %s for round %d: %s", offer.device, offer.round, error)
        self._emit(
            events.UpdateRejected(
                time=time.time(), round=offer.round, device=offer.device, code=error.reason, reason=str(error)
            )
        )
        self._uploads.forget(offer.device)
        self._messenger.receipt(offer, "rejected", str(error))
        if self._updates:
            self._updates.give_up(
                offer.device, offer.round, offer.digest, UpdateVerdict("rejected", str(error), offer.bytes_down)
            )
        fault = DeviceFault.VALUES if error.reason in _OF_VALUES else DeviceFault.REFUSED
        self.step(round_events.UpdateMissed(offer.device, fault, f"its update was refused: {error}"))

    def _close(self, closing: round_events.CloseRound) -> None:
        updates = self._current()
        self._lost = closing.lost
        if not self._overlapping:
            self._uploads.clear()
        self._check.make(updates)
        self._traffic = self._messenger.take_traffic()  # what is sent from here on belongs to the next round
        self._put(updates)

    def _withdrawn(self, offer: Offer, reason: str) -> None:
        """The round is made without an update that was admitted."""
        self._emit(
            events.UpdateRejected(
                time=time.time(), round=offer.round, device=offer.device, code="implausible", reason=reason
            )
        )

    def _put(self, updates: RoundUpdates) -> None:
        """The new model goes out, and to disk."""
        last = updates.round == self._config.rounds.count
        self._model_server.put_weights(self._blueprint, self._model.weights, ahead=() if last else self._held(updates))
        weights, state = self._model.whole, self._model.state
        self._background.do(
            lambda: self._checkpoints.save(updates.round, weights, state), then=lambda: self._saved(updates.round)
        )

    def _held(self, updates: RoundUpdates) -> frozenset[str]:
        """Units that the devices of a round train: those of the next one will as well."""
        depths = {place.depth for place in updates.places}
        return frozenset(unit.id for depth in depths for unit in self._blueprint.exchanged_by(depth))

    def _saved(self, round: int) -> None:
        if not self._config.data.evaluate:
            self._commit(None)
            return
        self._evaluation = self._worker.submit(
            Evaluate(
                model=self._classes.model,
                state_path=str(self._checkpoints.evaluated_path(round)),
                depths=self.useful_depths,
                data=self._config.data.evaluate,
                training_loss=self._training_loss(round),
            )
        )

    def _training_loss(self, round: int) -> float | None:
        """Mean loss of the devices' own samples; None while a model at chance is nothing to wonder at."""
        offers = [update.offer for update in self._current().accepted.values()]
        if round < min(EARLY_ROUNDS, self._config.rounds.count) or not offers:
            return None
        return sum(offer.loss for offer in offers) / len(offers)

    def _commit(self, judged: Evaluated | None) -> None:
        updates, accuracy = self._current(), judged.accuracy if judged else {}
        seconds = self._clock() - self._began
        summary = updates.summary(seconds, judged, self._profiles, self._traffic, self._lost)
        self._journal.commit_round(updates.round, msgspec.json.encode(summary))
        self.last = summary
        self.attendance.committed(summary)
        spent, round = updates.spent(), updates.round
        self._background.do(lambda: self._tidy(spent, round))
        log.info("round %d: %d of %d devices, accuracy %s", updates.round, len(updates.accepted), len(summary.devices),
                 " ".join(f"{value:.3f}" for value in accuracy.values()) or "not evaluated")  # fmt: skip
        self._emit(
            events.RoundFinished(
                time=time.time(),
                round=updates.round,
                seconds=summary.seconds,
                accuracy=accuracy,
                contributors=len(updates.accepted),
                lost=tuple(device.id for device in summary.devices if device.status == "lost"),
                bytes_down=sum(device.bytes_down for device in summary.devices),
                bytes_up=sum(device.bytes_up for device in summary.devices),
                doubt=self._said(summary.doubt, updates.round),
            )
        )
        self.step(round_events.RoundCommitted(updates.round))

    def _said(self, doubt: str, round: int) -> str:
        """A doubt is said when it comes up and at the end, not after every round in between."""
        if not doubt or (self._doubted and round < self._config.rounds.count):
            return ""
        self._doubted = True
        log.warning("round %d: %s", round, doubt)
        return doubt

    def _tidy(self, spent: Sequence[Path], round: int) -> None:
        """Removes what a committed round leaves behind."""
        for update in spent:
            update.unlink(missing_ok=True)
        self._checkpoints.prune(round)

    def _current(self) -> RoundUpdates:
        if self._updates is None:
            raise ValueError("no round is open")
        return self._updates


def _why_nobody(reasons: Mapping[str, str]) -> str:
    """Why no device can take part: once, if it is the same for all."""
    if len(reasons) == 1:
        [(device, reason)] = reasons.items()
        return f"the only device, {device}, cannot do its task: {reason}"
    if len(different := set(reasons.values())) == 1:
        return f"none of the {len(reasons)} devices can do its task, all for the same reason: {different.pop()}"
    shown = "; ".join(f"{device}: {reason}" for device, reason in list(reasons.items())[:NAMED])
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"none of the {len(reasons)} devices can do its task: {shown}{more}"
