"""Carries out the rounds: decisions of the round machine become tasks, and updates come in.

One round from top to bottom: ``_open`` (tasks and model go out), ``offered`` and ``chunk`` (updates come in),
``_close``. What becomes of a closed round stands in ``round_commit``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import assert_never

from coordinator.broker_clock import BrokerClock
from coordinator.rounds.fitness_reports import FitnessReports
from coordinator.rounds.round_commit import RoundCommit
from coordinator.rounds.round_updates import RoundUpdates, UpdateVerdict
from coordinator.rounds.tasks import Tasks
from coordinator.run_context import RunContext
from coordinator.transfer.uploads import CompletedUpload, UploadScheduler
from fedlp_edge.core.rounds import events as round_events
from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.rounds.machine import RoundMachine
from fedlp_edge.errors import RejectedUpdateError, StorageError
from fedlp_edge.reporting import events
from fedlp_edge.system.files import partial_path
from fedlp_edge.wire.admission import RejectionReason
from fedlp_edge.wire.chunks import Chunk
from fedlp_edge.wire.messages import Failure, Offer

log = logging.getLogger("fedlp.coordinator")

_OF_VALUES = (RejectionReason.NOT_FINITE, RejectionReason.VALUE, RejectionReason.NORM)
"""Refusals of what a device has computed, not of how it was sent."""


class RoundController:
    """The rounds of a run, carried out as the round machine decides.

    Args:
        context: Context of the run.
        machine: Decides when a round opens, with whom, and when it closes.
        commit: Part that makes the next model of a closed round.
        tasks: Sender of the devices' tasks.
        uploads: Brings updates in.
        fitness_reports: Reports of the machine's decisions about devices.
        accepted: Function that is called with every accepted update, before the round machine.
    """

    def __init__(
        self,
        context: RunContext,
        machine: RoundMachine,
        commit: RoundCommit,
        tasks: Tasks,
        uploads: UploadScheduler,
        fitness_reports: FitnessReports,
        accepted: Callable[[events.UpdateAccepted], None],
    ) -> None:
        self._context = context
        self._machine = machine
        self._commit = commit
        self._tasks = tasks
        self._uploads = uploads
        self._fitness_reports = fitness_reports
        self._accepted = accepted
        self._updates: RoundUpdates | None = None
        self._began = context.clock()
        self._clock = BrokerClock(context.clock, context.config.rounds.rejoin_seconds)
        self._wakeup: float | None = None
        self._wakeup_known = False
        self._bounded: set[str] = set()

    # What the service asks

    @property
    def round(self) -> int:
        """Number of the open round, or of the one that will open next."""
        return self._machine.round

    @property
    def all_committed(self) -> bool:
        """Whether no round is left to do."""
        return self._machine.phase is round_events.Phase.FINISHED

    def fitness(self, device: str) -> Fitness:
        """Returns the fitness of a device."""
        return self._machine.fitness(device)

    def awaits(self, device: str, round: int) -> bool:
        """Returns whether the update of a device for its task of a round is still wanted."""
        return self._machine.member(device, round) is not None

    def next_wakeup(self) -> float | None:
        """Returns when ``tick`` has something to do at the latest, in seconds; None if only events matter."""
        # Asked twice for every chunk of every update; the answer goes through all places of the round.
        if not self._wakeup_known:
            self._wakeup, self._wakeup_known = self._machine.next_wakeup(), True
        return None if self._wakeup is None else self._clock.when(self._wakeup)

    # What happens

    def resume(self) -> None:
        """Takes up the round that was open when the coordinator ended, if there was one."""
        opened = self._context.journal.unfinished_round()
        if self.all_committed:
            self._context.directory.clear_spool()  # [rounds] count was lowered: a round beyond it is given up
            return
        if opened is not None and opened.round == self._machine.round:
            cohort = Cohort(opened.round, opened.cohort)
            updates = self._begin(opened, cohort)
        elif self._overlapping and self._machine.round > 1:
            committed = self._machine.round - 1
            opened = round_events.OpenRound(committed, self._context.journal.places(committed), 1)
            cohort = Cohort(opened.round, opened.cohort)
            updates = self._updates = RoundUpdates(self._context, cohort, opened.weight_capacity, closed=True)
        else:
            self._context.directory.clear_spool()  # it may have ended between the commit and the clearing
            return
        updates.replay()
        arrived, early = frozenset(updates.accepted), frozenset(updates.early)
        log.info("round %d goes on: %d of %d updates are here", self.round, len(arrived), len(opened.cohort))
        missed = updates.given_up - arrived
        self._machine.resume(opened, arrived, self._clock.now(), missed=missed, early=early, cohort=cohort)
        self._wakeup_known = False

    def step(self, event: round_events.Event) -> None:
        """Hands an event to the state machine and carries out what it decides."""
        self._wakeup_known = False
        for effect in self._machine.handle(event, self._clock.now()):
            self._carry_out(effect)

    def tick(self) -> None:
        """Does what is due at this time."""
        now = self._context.clock()
        self._uploads.tick(now)
        wake = self.next_wakeup()
        if wake is not None and now >= wake:
            self.step(round_events.TimePassed())

    def now(self) -> float:
        """Returns the time by which devices are waited for, in seconds; it stands still without a broker."""
        return self._clock.now()

    def broker_lost(self) -> None:
        """Lets no deadline pass from here on: no device can be heard."""
        self._clock.stop()

    def broker_back(self) -> None:
        """Lets time pass again, once the devices have had some to come back as well."""
        self._clock.go()

    def offered(self, offer: Offer) -> None:
        """Takes the offer of an update, which may be a repeat."""
        wanted = self._machine.member(offer.device, offer.round) if offer.run == self._context.run else None
        if wanted is None or self._updates is None:
            self._answer_late(offer)
            return
        try:
            self._updates.check(offer)
        except RejectedUpdateError as error:
            self._reject(offer, error)
            return
        path = partial_path(self._context.directory.spool / offer.device)
        if whole := self._uploads.offer(offer, path, self._context.clock()):
            self._take(whole)

    def chunk(self, device: str, payload: bytes) -> None:
        """Takes a chunk of an update.

        Raises:
            PeerError: The payload is no chunk.
        """
        self._context.messenger.count("update", len(payload))
        if whole := self._uploads.chunk(device, Chunk.parse(payload), len(payload), self._context.clock()):
            self._take(whole)

    def delivered(self, token: int) -> None:
        """Notes that the broker has taken a message to a device, which may be a grant."""
        self._uploads.delivered(token, self._context.clock())

    def failed(self, failure: Failure, fault: DeviceFault | None) -> None:
        """Notes that a device gave up its task, or could not even hold its submodel.

        Args:
            failure: Failure as the device reports it.
            fault: Kind of the failure for the device's fitness; None if it says nothing.
        """
        if failure.round is None:
            if fault is not None:
                self.step(round_events.DeviceUnable(failure.device, fault, failure.reason))
        elif self._updates and self.awaits(failure.device, failure.round):
            self._updates.give_up(
                failure.device,
                failure.round,
                "",
                UpdateVerdict("failed", failure.reason, failure.bytes_down, failure.payload_down),
            )
            self.step(round_events.UpdateMissed(failure.device, fault, failure.reason))

    def outdated(self, device: str) -> None:
        """Gives a device that requests a model which is no longer served a task with the present one."""
        self.step(round_events.ModelOutdated(device))

    # What is decided

    def _carry_out(self, effect: round_events.Effect) -> None:
        match effect:
            case round_events.OpenRound():
                self._open(effect)
            case round_events.AddPlaces():
                self._add_places(effect.added, effect.weight_capacity)
            case round_events.ExtendRound():
                self._extend(effect)
            case round_events.SendTask(_, device):
                self._repeat_task(device)
            case round_events.CloseRound():
                self._close(effect)
            case round_events.TooFewDevices(present, wanted, unable, preparing):
                self._context.emit(
                    events.WaitingForDevices(
                        time=time.time(), present=present, wanted=wanted, unable=unable, preparing=preparing
                    )
                )
            case round_events.FitnessChanged(device, fitness):
                self._fitness_reports.changed(device, fitness, finished=self.all_committed)
            case round_events.NoDeviceFit(reasons, seconds):
                self._fitness_reports.all_devices_unfit(reasons, seconds)
            case round_events.FinishRun():
                self._uploads.clear()
                self._commit.clear_spool()
            case _:
                assert_never(effect)

    @property
    def _overlapping(self) -> bool:
        """Whether a round may count tasks of earlier ones."""
        return self._context.config.rounds.mode == "buffered"

    def _begin(self, opened: round_events.OpenRound, cohort: Cohort) -> RoundUpdates:
        self._updates = RoundUpdates(self._context, cohort, opened.weight_capacity)
        self._report_bounds(opened.cohort)
        self._note_depths(opened.cohort)
        self._began = self._context.clock()
        self._context.messenger.announce("running")
        self._context.emit(
            events.RoundStarted(
                time=time.time(),
                round=opened.round,
                devices=tuple(dict.fromkeys(place.device for place in cohort.places)),
                deadline_seconds=self._context.config.rounds.deadline_seconds,
            )
        )
        return self._updates

    def _open(self, opened: round_events.OpenRound) -> None:
        self._context.journal.open_round(opened.round, opened.weight_capacity, opened.cohort)
        updates = self._begin(opened, self._machine.cohort)
        if self._overlapping:
            updates.replay()  # what came early for it
        self._give_tasks([place for place in opened.cohort if place.task_round(opened.round) == opened.round])

    def _extend(self, extension: round_events.ExtendRound) -> None:
        have, need = extension.contributors, extension.quorum
        log.warning("round %d has %d updates and needs %d; it waits once more", extension.round, have, need)
        self._context.emit(events.RoundFailed(time=time.time(), round=extension.round, contributors=have, quorum=need))
        self._add_places(extension.added, extension.weight_capacity)

    def _add_places(self, added: tuple[round_events.CohortMember, ...], capacity: int) -> None:
        if self._updates:
            self._updates.extend(added, capacity)
            self._note_depths(added)
        self._give_tasks(added)

    def _report_bounds(self, places: Sequence[round_events.CohortMember]) -> None:
        """Logs once for each device that it counts for fewer samples than it reports."""
        for place in places:
            if (
                place.weight < place.samples
                and self._context.config.scheme.weights == "samples"
                and place.device not in self._bounded
            ):
                self._bounded.add(place.device)
                log.warning("%s says that it has %d samples, far more than others: it counts as %d at most "
                            "([rounds] max_sample_ratio)", place.device, place.samples, place.weight)  # fmt: skip

    def _note_depths(self, cohort: tuple[round_events.CohortMember, ...]) -> None:
        history = self._commit.history
        history.note_cohort(cohort)
        if not history.full_depth_trained:
            full = self._context.blueprint.full_depth
            log.warning("no device is large enough for depth %d: the full model's last layers stay untrained", full)

    def _give_tasks(self, places: Sequence[round_events.CohortMember]) -> None:
        if self._updates:
            given = [place for p in places if (place := self._machine.cohort.place(p.device, self._updates.round))]
            self._tasks.give(self._updates.round, given, self._machine.seconds_left(self._clock.now()))

    def _repeat_task(self, device: str) -> None:
        place = self._updates and self._machine.cohort.place(device, self._updates.round)
        if self._updates and place:
            self._tasks.tell(self._updates.round, place, self._machine.seconds_left(self._clock.now()))

    def _take(self, whole: CompletedUpload) -> None:
        """Admits an update whose bytes are complete."""
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
            raise StorageError(f"cannot keep an update in {self._context.directory.spool}: {error}") from error
        self._context.messenger.receipt(offer, "accepted")
        accepted = events.UpdateAccepted(
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
        self._context.emit(accepted)
        self._accepted(accepted)
        self.step(round_events.UpdateArrived(offer.device))

    def _answer_late(self, offer: Offer) -> None:
        verdict = None
        if self._updates and offer.run == self._context.run:
            verdict = self._updates.verdict(offer.device, offer.round)
        if verdict is None:
            self._context.messenger.receipt(offer, "stale", "that round is over")
        elif verdict.status == "contributed":
            self._context.messenger.receipt(offer, "accepted")
        else:
            self._context.messenger.receipt(offer, "rejected", verdict.reason)

    def _reject(self, offer: Offer, error: RejectedUpdateError) -> None:
        log.warning("rejected the update of %s for round %d: %s", offer.device, offer.round, error)
        self._context.emit(
            events.UpdateRejected(
                time=time.time(), round=offer.round, device=offer.device, code=error.reason, reason=str(error)
            )
        )
        self._uploads.forget(offer.device)
        self._context.messenger.receipt(offer, "rejected", str(error))
        if self._updates:
            self._updates.give_up(
                offer.device,
                offer.round,
                offer.digest,
                UpdateVerdict("rejected", str(error), offer.bytes_down, offer.payload_down),
            )
        fault = DeviceFault.VALUES if error.reason in _OF_VALUES else DeviceFault.REFUSED
        self.step(round_events.UpdateMissed(offer.device, fault, f"its update was refused: {error}"))

    def _close(self, closing: round_events.CloseRound) -> None:
        updates = self._updates
        if updates is None:
            raise ValueError("no round is open")
        if not self._overlapping:
            self._uploads.clear()
        self._commit.close(updates, closing.lost, self._began, lambda: self._committed(updates.round))

    def _committed(self, round: int) -> None:
        enough = self._commit.history.judged.enough
        if enough:
            log.info("the run ends with round %d: %s", round, enough)
        self.step(round_events.RoundCommitted(round, enough=bool(enough)))
