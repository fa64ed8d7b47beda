"""Implements synchronous rounds as a state machine: it takes events and the time, and returns effects.

The machine decides when a round opens, with which devices, when it closes, and what happens if too few devices deliver.
It has no clock, network, files or hidden randomness: the coordinator carries out its effects, and a test gives it
literal events and never sleeps. ``buffered`` has the machine of asynchronous runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from fedlp_edge.core.algorithm.aggregation import capacity_of
from fedlp_edge.core.rounds.cohort import Assign, Cohort, as_drawn
from fedlp_edge.core.rounds.events import (
    CloseRound,
    CohortMember,
    DeviceReady,
    DeviceUnable,
    Effect,
    Event,
    ExtendRound,
    FinishRun,
    OpenRound,
    Phase,
    RoundCommitted,
    SendTask,
    UpdateArrived,
    UpdateMissed,
    move,
)
from fedlp_edge.core.rounds.fitness import SILENT, DeviceFault, Fitness
from fedlp_edge.core.rounds.ready_devices import ReadyDevices
from fedlp_edge.core.rounds.settings import RoundSettings


@dataclass
class _OpenRound:
    """The open round.

    Attributes:
        round: Number of the round.
        deadline: Time at which the round closes or is extended, in seconds.
        capacity: Upper bound of the summed weights.
        cohort: Places by device id.
        arrived: Ids of devices whose update has arrived.
        missed: Ids of devices whose update will not come.
    """

    round: int
    deadline: float
    capacity: int
    cohort: dict[str, CohortMember]
    arrived: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    @property
    def awaited(self) -> set[str]:
        """Ids of devices whose update may still come."""
        return self.cohort.keys() - self.arrived - self.missed

    @property
    def most(self) -> int:
        """Largest number of updates that the round can have, those that arrived included."""
        return len(self.cohort) - len(self.missed)

    @property
    def weight(self) -> int:
        """Largest summed weight of all places; missed ones count, since a restart may ask for them again."""
        return sum(p.weight for p in self.cohort.values())


class SynchronousRounds:
    """The round machine of a synchronous run, from round ``next_round`` on.

    Args:
        settings: Sizes and times of rounds.
        seed: Seed of the run.
        next_round: 1, or the first uncommitted round after a restart.
        expected: Ids of devices that were ready before a restart; a round waits ``rejoin_seconds`` for them.
        now: Present time in seconds, on any monotonic clock.
        fitness: Fitness of devices that failed before a restart, by id.
        assign: Function that gives a place the rates of its units.

    Attributes:
        phase: Phase of the run.
        cohort: Places of the open round; of the round before if none is open.
    """

    def __init__(
        self,
        settings: RoundSettings,
        seed: int,
        *,
        now: float,
        next_round: int = 1,
        expected: frozenset[str] = frozenset(),
        fitness: Mapping[str, Fitness] | None = None,
        assign: Assign = as_drawn,
    ) -> None:
        self._settings = settings
        self._next_round = next_round
        self._ready_devices = ReadyDevices(settings, seed, expected, now, fitness)
        self._open: _OpenRound | None = None
        self._assign = assign
        self.cohort = Cohort(next_round)
        self.phase = Phase.WAITING if next_round <= settings.count else Phase.FINISHED

    @property
    def round(self) -> int:
        """Number of the open round, or of the next one if none is open."""
        return self._next_round

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
        """Resumes a round that was open when the coordinator ended, with a new deadline.

        Args:
            opened: Round with all its places, those of extensions included, and its latest weight capacity.
            arrived: Ids of devices whose updates are on disk.
            now: Present time in seconds.
            missed: Ids of devices whose updates will not come.
            early: Must be empty; only asynchronous runs have updates of a later round.
            cohort: Cohort object with the places of ``opened``; None to make one.

        Raises:
            ValueError: ``opened`` is not the next round, or ``early`` is not empty.
        """
        if early:
            raise ValueError("a synchronous round has no updates of later rounds")
        if opened.round != self._next_round:
            raise ValueError(f"round {opened.round} cannot be resumed when round {self._next_round} is next")
        self._move(Phase.COLLECTING)
        self.cohort = cohort or Cohort(opened.round, opened.cohort)
        places = {p.device: p for p in opened.cohort}
        self._open = _OpenRound(
            opened.round,
            now + self._settings.deadline_seconds,
            opened.weight_capacity,
            places,
            arrived=set(arrived & places.keys()),
            missed=set((missed - arrived) & places.keys()),
        )

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device in the open round; None if ``round`` is not open or its update not wanted."""
        current = self._open
        if current is None or current.round != round or self.phase is not Phase.COLLECTING:
            return None
        if device in current.arrived or device in current.missed:
            return None
        return current.cohort.get(device)

    def counts_in(self, device: str) -> int:  # noqa: ARG002  # the machine of asynchronous runs needs it
        """Returns the round in which an update of a device counts if it arrives now: the open one."""
        return self._next_round

    def seconds_left(self, now: float) -> float:
        """Returns the seconds until the deadline of the open round; 0 if none is open."""
        return max(0.0, self._open.deadline - now) if self._open else 0.0

    def next_wakeup(self) -> float | None:
        """Returns the time by which ``TimePassed`` must be sent, in seconds; None if the machine waits for events."""
        if self.phase is Phase.COLLECTING and self._open:
            # A resumed round may be complete already; the first TimePassed closes it.
            if not self._open.awaited and len(self._open.arrived) >= self._quorum(self._open):
                return -math.inf
            lacks = self._open.most < self._quorum(self._open)
            times = [self._open.deadline, *self._ready_devices.end_of_wait(self._open.awaited)]
            return min([*times, *(self._ready_devices.pauses() if lacks else [])])
        return self._ready_devices.next_wakeup() if self.phase is Phase.WAITING else None

    def fitness(self, device: str) -> Fitness:
        """Returns the fitness of a device."""
        return self._ready_devices.fitness_tracker[device]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns its effects, in the order in which they must be carried out.

        Args:
            event: Event that happened.
            now: Present time in seconds.

        Raises:
            ValueError: The event would make a transition that no run can make.
        """
        effects: list[Effect] = []
        self._ready_devices.take(event, self._next_round, now, effects)
        match event:
            case DeviceReady(member):
                self._welcome(member, effects)
            case DeviceUnable(device):
                self._miss(device)
            case UpdateArrived(device):
                if self._open and self.member(device, self._open.round):
                    self._open.arrived.add(device)
                    self._ready_devices.clear_failures(device, effects)
            case UpdateMissed(device, fault, reason):
                if self._miss(device) and fault:
                    self._ready_devices.failed(device, fault, reason, self._next_round, effects)
            case RoundCommitted(round, enough):
                self._commit(round, effects, enough=enough)
            case _:
                pass  # only time has passed, or only the ready devices change
        if self.phase is Phase.COLLECTING:
            self._collect(now, effects)
        if self.phase is Phase.WAITING:
            self._try_open(now, effects)
        return effects

    def _welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Sends a device that became ready its task again, if it has a place whose update is still wanted."""
        place = self.member(member.device, self._next_round)
        if place is None or self._open is None:
            return
        if place.depth == member.depth:
            effects.append(SendTask(self._next_round, member.device))
        else:
            # The device has a new plan and holds another submodel. An extension may give it a new place.
            self._open.missed.add(member.device)

    def _miss(self, device: str) -> bool:
        """Notes that the update of a device will not come; returns whether it was awaited."""
        awaited = self._open is not None and self.member(device, self._open.round) is not None
        if self._open and awaited:
            self._open.missed.add(device)
        return awaited

    def _quorum(self, current: _OpenRound) -> int:
        """Returns how many updates the round needs to close: a share of its places, without those of unfit devices."""
        hopeless = {device for device in current.missed if self._ready_devices.fitness_tracker[device].out}
        places = (place for device, place in current.cohort.items() if device not in hopeless)
        return self._settings.quorum_of(sum(not place.replacement for place in places))

    def _try_open(self, now: float, effects: list[Effect]) -> None:
        if not self._ready_devices.enough(self._next_round, effects):
            return
        candidates = self._ready_devices.candidates(self._next_round)
        chosen = self._ready_devices.draw(candidates, self._settings.devices_per_round, self._next_round)
        places = {device: self._assign(self._next_round, self._ready_devices.place(device)) for device in chosen}
        capacity = capacity_of(p.weight for p in places.values())
        self._open = _OpenRound(self._next_round, now + self._settings.deadline_seconds, capacity, places)
        self.cohort = Cohort(self._next_round, places.values())
        self._move(Phase.COLLECTING)
        effects.append(OpenRound(self._next_round, tuple(places.values()), capacity))

    def _collect(self, now: float, effects: list[Effect]) -> None:
        current = self._open
        if current is None:
            return
        quorum, overdue = self._quorum(current), now >= current.deadline
        awaited = current.awaited
        ended = awaited & self._ready_devices.ended()
        if len(current.arrived) >= quorum:
            if awaited == ended or overdue:
                self._close(current, effects)
            return
        # At the deadline, devices that have not answered may never do; before it, only updates are replaced that were
        # missed, or whose devices were ended.
        likely = len(current.arrived) if overdue else current.most - len(ended)
        added = self._replacements(current, quorum - likely) if likely < quorum else []
        if added or overdue:
            self._extend(current, added, quorum, now, effects, ask_again=overdue)
        if not added and not current.awaited:
            self._ready_devices.end_run_if_none_fit(effects)

    def _close(self, current: _OpenRound, effects: list[Effect]) -> None:
        contributors = tuple(sorted(current.arrived))
        lost = tuple(sorted(current.cohort.keys() - current.arrived))
        self._move(Phase.CLOSING)
        effects.append(CloseRound(current.round, contributors, lost))
        for device in lost:
            if device not in current.missed and device in self._ready_devices.ready:
                self._ready_devices.failed(device, DeviceFault.LOST, SILENT, current.round, effects)

    def _extend(
        self,
        current: _OpenRound,
        devices: list[str],
        quorum: int,
        now: float,
        effects: list[Effect],
        *,
        ask_again: bool,
    ) -> None:
        """Sets a new deadline and gives places to as many ready devices as are lacking."""
        retry = sorted(current.awaited & self._ready_devices.ready.keys()) if ask_again else []
        said: list[Effect] = []
        for device in retry:
            self._ready_devices.failed(device, DeviceFault.LOST, SILENT, current.round, said)
            if self._ready_devices.fitness_tracker[device].out:
                current.missed.add(device)
        added = [self._place(current, device) for device in devices]
        current.cohort.update({p.device: p for p in added})
        self.cohort.add(added)
        current.missed -= {p.device for p in added}
        current.capacity = max(current.capacity, current.weight)
        current.deadline = now + self._settings.deadline_seconds
        effects.append(ExtendRound(current.round, tuple(added), len(current.arrived), quorum, current.capacity))
        effects.extend(SendTask(current.round, device) for device in retry if device not in current.missed)
        effects.extend(said)

    def _replacements(self, current: _OpenRound, wanted: int) -> list[str]:
        """Chooses ready devices without a place first, then those that may try again and whose update was missed."""
        waiting, chosen = self._ready_devices, list[str]()
        fresh, failed = waiting.ready.keys() - current.cohort.keys(), waiting.ready.keys() & current.missed
        for spare in (waiting.fit(current.round) & fresh, waiting.retriable(failed), waiting.retriable(fresh)):
            if len(chosen) < wanted:
                chosen += waiting.draw(spare - set(chosen), wanted - len(chosen), current.round)
        return chosen

    def _place(self, current: _OpenRound, device: str) -> CohortMember:
        before = current.cohort.get(device)
        place = msgspec.structs.replace(
            self._ready_devices.place(device), replacement=before is None or before.replacement
        )
        return self._assign(current.round, place)

    def _commit(self, round: int, effects: list[Effect], *, enough: bool) -> None:
        if self.phase is not Phase.CLOSING or round != self._next_round:
            return
        self._open = None
        self._next_round += 1
        if enough or self._next_round > self._settings.count:
            self._move(Phase.FINISHED)
            effects.append(FinishRun())
        else:
            self._move(Phase.WAITING)

    def _move(self, phase: Phase) -> None:
        self.phase = move(self.phase, phase)
