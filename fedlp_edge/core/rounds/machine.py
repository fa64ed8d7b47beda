"""Implements a run as a state machine: it takes events and the time, and returns effects.

The machine has no clock, network, files or hidden randomness: the coordinator carries out its effects, and a test gives
it literal events and never sleeps. Which devices have tasks, and when a round has all that it needs, is the matter of
its mode: ``synchronous`` or ``buffered``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fedlp_edge.core.rounds.buffered import BufferedRounds
from fedlp_edge.core.rounds.cohort import Assign, Cohort, as_drawn
from fedlp_edge.core.rounds.current_round import CurrentRound
from fedlp_edge.core.rounds.events import (
    CohortMember,
    DeviceReady,
    DeviceUnable,
    Effect,
    Event,
    FinishRun,
    ModelOutdated,
    OpenRound,
    Phase,
    RoundCommitted,
    UpdateArrived,
    UpdateMissed,
)
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.core.rounds.ready_devices import ReadyDevices
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.rounds.synchronous import SynchronousRounds


class RoundMode(Protocol):
    """What differs between the modes: which devices have tasks, and when a round has all that it needs.

    A run that is finished asks its mode nothing.
    """

    def open(self, candidates: set[str], now: float) -> OpenRound:
        """Opens the current round with some of the devices that may get a task."""

    def resume(
        self, opened: OpenRound, arrived: frozenset[str], now: float, missed: frozenset[str], early: frozenset[str]
    ) -> None:
        """Takes up a round of an earlier life of the coordinator; see ``RoundMachine.resume``."""

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device for its task of ``round``; None if its update is not wanted."""

    def counts_in(self, device: str) -> int:
        """Returns the round in which an update of a device counts if it arrives now."""

    def seconds_left(self, now: float) -> float:
        """Returns the seconds until the deadline of a task that is given now, in the round that is open."""

    def next_wakeup(self) -> float:
        """Returns the time by which the round that collects updates must hear that time has passed, in seconds."""

    def welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Lets a device that became ready go on with its task, unless it holds another submodel now."""

    def arrive(self, device: str) -> bool:
        """Notes that the update of a device has arrived; returns whether it was awaited."""

    def miss(self, device: str) -> bool:
        """Notes that the update of a device will not come; returns whether it was awaited."""

    def outdate(self, device: str) -> None:
        """Gives up the task of a device if newer rounds have replaced the model that it starts from."""

    def collect(self, now: float, effects: list[Effect]) -> bool:
        """Adds places, extends the round or closes it, as far as it is due; returns whether it closes."""


class RoundMachine:
    """The state machine of a run: it decides when rounds open and close, and tells its mode what happens to devices.

    Args:
        current: Round that the run is in.
        ready_devices: Devices that are online.
        mode: Rules of the rounds, which look at ``current`` and ``ready_devices`` too.
    """

    def __init__(self, current: CurrentRound, ready_devices: ReadyDevices, mode: RoundMode) -> None:
        self._current = current
        self._ready_devices = ready_devices
        self._mode = mode

    @property
    def phase(self) -> Phase:
        """Phase of the run."""
        return self._current.phase

    @property
    def round(self) -> int:
        """Number of the open round, or of the next one if none is open."""
        return self._current.number

    @property
    def cohort(self) -> Cohort:
        """Places of the open round; of the round before if none is open."""
        return self._current.cohort

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device for its task of ``round``; None if its update is not wanted."""
        return None if self.phase is Phase.FINISHED else self._mode.member(device, round)

    def counts_in(self, device: str) -> int:
        """Returns the round in which an update of a device counts if it arrives now."""
        return self._mode.counts_in(device)

    def seconds_left(self, now: float) -> float:
        """Returns the seconds until the deadline of a task that is given now; 0 if no round is open."""
        return self._mode.seconds_left(now) if self._current.is_open else 0.0

    def fitness(self, device: str) -> Fitness:
        """Returns the fitness of a device."""
        return self._ready_devices.fitness_tracker[device]

    def next_wakeup(self) -> float | None:
        """Returns the time by which ``TimePassed`` must be sent, in seconds; None if the machine waits for events."""
        if self.phase is Phase.COLLECTING:
            return self._mode.next_wakeup()
        return self._ready_devices.next_wakeup() if self.phase is Phase.WAITING else None

    def resume(
        self,
        opened: OpenRound,
        arrived: frozenset[str],
        now: float,
        *,
        missed: frozenset[str] = frozenset(),
        early: frozenset[str] = frozenset(),
        cohort: Cohort | None = None,
    ) -> None:
        """Resumes the state that the coordinator had when it ended, with new deadlines.

        Args:
            opened: Round that was open, with all its places, those of extensions included, and its latest weight
                capacity. In buffered mode the places are those whose updates arrived or are awaited, of which a device
                may have one each; the round is the last committed one if none was open.
            arrived: Ids of devices whose update for this round is on disk.
            now: Present time in seconds.
            missed: Ids of devices that will not do their task of this round.
            early: Ids of devices whose update for the round after this one is on disk; only in buffered mode.
            cohort: Cohort object with the places of ``opened``; None to make one.

        Raises:
            ValueError: ``opened`` is not a round that the run can be in, or a synchronous run has ``early`` updates.
        """
        self._mode.resume(opened, arrived, now, missed, early)
        self._current.resume(opened, cohort)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns its effects, in the order in which they must be carried out.

        Args:
            event: Event that happened.
            now: Present time in seconds.
        """
        effects: list[Effect] = []
        self._ready_devices.take(event, self.round, now, effects)
        if self.phase is Phase.FINISHED:
            return effects
        match event:
            case DeviceReady(member):
                self._mode.welcome(member, effects)
            case DeviceUnable(device):
                self._mode.miss(device)
            case UpdateArrived(device):
                if self._mode.arrive(device):
                    self._ready_devices.clear_failures(device, effects)
            case UpdateMissed(device, fault, reason):
                if self._mode.miss(device) and fault:
                    self._ready_devices.failed(device, fault, reason, self.round, effects)
            case ModelOutdated(device):
                self._mode.outdate(device)
            case RoundCommitted(round, enough):
                self._commit(round, effects, enough=enough)
            case _:
                pass  # only time has passed, or only the ready devices change
        if self.phase is Phase.WAITING:
            self._try_open(now, effects)
        if self.phase is Phase.COLLECTING and self._mode.collect(now, effects):
            self._current.close()
        return effects

    def _try_open(self, now: float, effects: list[Effect]) -> None:
        if self._ready_devices.enough(self.round, effects):
            opened = self._mode.open(self._ready_devices.candidates(self.round), now)
            self._current.open(opened)
            effects.append(opened)

    def _commit(self, round: int, effects: list[Effect], *, enough: bool) -> None:
        if self.phase is not Phase.CLOSING or round != self.round:
            return
        if self._current.commit(enough=enough):
            effects.append(FinishRun())


def make_round_machine(
    settings: RoundSettings,
    seed: int,
    *,
    now: float,
    next_round: int = 1,
    expected: frozenset[str] = frozenset(),
    fitness: Mapping[str, Fitness] | None = None,
    assign: Assign = as_drawn,
) -> RoundMachine:
    """Returns the machine of a run, from round ``next_round`` on.

    Args:
        settings: Mode, sizes and times of rounds.
        seed: Seed of the run.
        now: Present time in seconds, on any monotonic clock.
        next_round: 1, or the first uncommitted round after a restart.
        expected: Ids of devices that were ready before a restart; a round waits ``rejoin_seconds`` for them.
        fitness: Fitness of devices that failed before a restart, by id.
        assign: Function that gives a place the rates of its units.
    """
    current = CurrentRound(next_round, settings.count)
    ready_devices = ReadyDevices(settings, seed, expected, now, fitness)
    kind = BufferedRounds if settings.mode == "buffered" else SynchronousRounds
    return RoundMachine(current, ready_devices, kind(settings, current, ready_devices, assign))
