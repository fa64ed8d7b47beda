"""The course of a run as a state machine: events and the time go in, effects come out.

It owns the decisions (when a round opens, with whom, when it closes, what happens when too few devices
answer) and nothing else: no clock, no network, no files, no hidden randomness. The coordinator carries the
effects out; a test feeds literal events and never sleeps. ``buffered`` has the machine of asynchronous runs.
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
    round: int
    deadline: float
    capacity: int
    cohort: dict[str, CohortMember]
    arrived: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    @property
    def resolved(self) -> bool:
        """Nothing more can come."""
        return len(self.arrived) + len(self.missed) == len(self.cohort)

    @property
    def most(self) -> int:
        """Updates that can still be, those that arrived included."""
        return len(self.cohort) - len(self.missed)

    @property
    def weight(self) -> int:
        """The most that all updates can weigh, missed ones too: after a restart they may be wanted again."""
        return sum(p.weight for p in self.cohort.values())


class SynchronousRounds:
    """A run from round ``next_round`` on.

    Args:
        settings: sizes and times.
        seed: of the run.
        next_round: 1, or the first uncommitted round after a restart.
        expected: devices that were ready before a restart; they are waited for, ``rejoin_seconds`` long.
        now: the time, in seconds on any monotonic clock.
        fitness: of devices that failed before a restart.
        assign: gives places the rates of their units.

    Attributes:
        phase: where the run stands.
        cohort: who is in the open round, or in the one before as long as no other is open.
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
        """The open round, or the one that will open next."""
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
        """Takes up a round that was open when the coordinator ended; its deadline starts anew.

        Args:
            opened: the round with all its places, those of extensions included, and its latest capacity.
            arrived: devices whose updates are safe on disk.
            now: the time.
            missed: devices whose updates will not come.
            early: empty; only asynchronous runs have updates that come before their round.
            cohort: the places of ``opened``, if somebody holds them already.

        Raises:
            ValueError: it is not the round that comes next, or updates of a later one are said to be there.
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
        """The place of a device in the open round, if ``round`` is open and its update is still wanted."""
        current = self._open
        if current is None or current.round != round or self.phase is not Phase.COLLECTING:
            return None
        if device in current.arrived or device in current.missed:
            return None
        return current.cohort.get(device)

    def counts_in(self, device: str) -> int:  # noqa: ARG002  # the machine of asynchronous runs needs it
        """The round that counts an update of this device if it arrives now: the open one."""
        return self._next_round

    def seconds_left(self, now: float) -> float:
        """Of the open round; 0 if none is open."""
        return max(0.0, self._open.deadline - now) if self._open else 0.0

    def next_wakeup(self) -> float | None:
        """When to send the next Tick at the latest; None if only events matter."""
        if self.phase is Phase.COLLECTING and self._open:
            # A resumed round may have been complete already: it is closed by the first Tick.
            if self._open.resolved and len(self._open.arrived) >= self._quorum(self._open):
                return -math.inf
            lacks = self._open.most < self._quorum(self._open)
            return min([self._open.deadline, *(self._ready_devices.pauses() if lacks else [])])
        return self._ready_devices.next_wakeup() if self.phase is Phase.WAITING else None

    def fitness(self, device: str) -> Fitness:
        """Whether a device can be counted on."""
        return self._ready_devices.roster[device]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns what is to be done, in order."""
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
                    self._ready_devices.trust(device, effects)
            case UpdateMissed(device, fault, reason):
                if self._miss(device) and fault:
                    self._ready_devices.failed(device, fault, reason, self._next_round, effects)
            case RoundCommitted(round):
                self._commit(round, effects)
            case _:
                pass  # only time has passed, or only the ready devices change
        if self.phase is Phase.COLLECTING:
            self._collect(now, effects)
        if self.phase is Phase.WAITING:
            self._try_open(now, effects)
        return effects

    def _welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Gives a device that is (again) ready its task, if it has a place that it can still fill."""
        place = self.member(member.device, self._next_round)
        if place is None or self._open is None:
            return
        if place.depth == member.depth:
            effects.append(SendTask(self._next_round, member.device))
        else:
            # It was planned anew and holds another submodel now. An extension may give it a new place.
            self._open.missed.add(member.device)

    def _miss(self, device: str) -> bool:
        """The update of a device will not come; returns whether it was awaited."""
        awaited = self._open is not None and self.member(device, self._open.round) is not None
        if self._open and awaited:
            self._open.missed.add(device)
        return awaited

    def _quorum(self, current: _OpenRound) -> int:
        """Updates without which the round does not close: a share of its places, those of unfit devices left out."""
        hopeless = {device for device in current.missed if self._ready_devices.roster[device].out}
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
        if len(current.arrived) >= quorum:
            if current.resolved or overdue:
                self._close(current, effects)
            return
        # Whoever is silent at the deadline may stay so; before it, only those are lacking who will surely not deliver.
        likely = len(current.arrived) if overdue else current.most
        added = self._replacements(current, quorum - likely) if likely < quorum else []
        if added or overdue:
            self._extend(current, added, quorum, now, effects, ask_again=overdue)
        if not added and current.resolved:
            self._ready_devices.look_for_hope(effects)

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
        """Waits once more, and gives places to as many ready devices as are lacking."""
        silent = current.cohort.keys() - current.arrived - current.missed
        retry = sorted(silent & self._ready_devices.ready.keys()) if ask_again else []
        said: list[Effect] = []
        for device in retry:
            self._ready_devices.failed(device, DeviceFault.LOST, SILENT, current.round, said)
            if self._ready_devices.roster[device].out:
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
        """Ready devices without a place first; then those that missed: the same device may do better now."""
        waiting, chosen = self._ready_devices, list[str]()
        fresh, failed = waiting.ready.keys() - current.cohort.keys(), waiting.ready.keys() & current.missed
        for spare in (waiting.fit(current.round) & fresh, waiting.rested(failed), waiting.rested(fresh)):
            if len(chosen) < wanted:
                chosen += waiting.draw(spare - set(chosen), wanted - len(chosen), current.round)
        return chosen

    def _place(self, current: _OpenRound, device: str) -> CohortMember:
        before = current.cohort.get(device)
        place = msgspec.structs.replace(
            self._ready_devices.place(device), replacement=before is None or before.replacement
        )
        return self._assign(current.round, place)

    def _commit(self, round: int, effects: list[Effect]) -> None:
        if self.phase is not Phase.CLOSING or round != self._next_round:
            return
        self._open = None
        self._next_round += 1
        if self._next_round > self._settings.count:
            self._move(Phase.FINISHED)
            effects.append(FinishRun())
        else:
            self._move(Phase.WAITING)

    def _move(self, phase: Phase) -> None:
        self.phase = move(self.phase, phase)
