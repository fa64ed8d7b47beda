"""Implements the rules of synchronous rounds: when a round closes, and what happens if too few devices deliver."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec

from fedlp_edge.core.algorithm.aggregation import capacity_of
from fedlp_edge.core.rounds.cohort import Assign
from fedlp_edge.core.rounds.current_round import CurrentRound
from fedlp_edge.core.rounds.events import CloseRound, CohortMember, Effect, ExtendRound, OpenRound, Phase, SendTask
from fedlp_edge.core.rounds.ready_devices import ReadyDevices
from fedlp_edge.core.rounds.settings import RoundSettings


@dataclass
class _OpenRound:
    """The open round.

    Attributes:
        deadline: Time at which the round closes or is extended, in seconds.
        capacity: Upper bound of the summed weights.
        cohort: Places by device id.
        arrived: Ids of devices whose update has arrived.
        missed: Ids of devices whose update will not come.
    """

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
    """The mode in which a round waits for the updates of its cohort; see ``RoundMode`` for what the methods do.

    Args:
        settings: Sizes and times of rounds.
        current: Round that the run is in.
        ready_devices: Devices that are online.
        assign: Function that gives a place the rates of its units.
    """

    def __init__(
        self, settings: RoundSettings, current: CurrentRound, ready_devices: ReadyDevices, assign: Assign
    ) -> None:
        self._settings = settings
        self._current = current
        self._ready_devices = ready_devices
        self._assign = assign
        self._open = _OpenRound(-math.inf, 0, {})  # none before the first; between two, the one before

    def open(self, candidates: set[str], now: float) -> OpenRound:
        """Opens the round with a cohort that is drawn from the candidates."""
        number = self._current.number
        chosen = self._ready_devices.draw(candidates, self._settings.devices_per_round, number)
        places = {device: self._assign(number, self._ready_devices.place(device)) for device in chosen}
        capacity = capacity_of(p.weight for p in places.values())
        self._open = _OpenRound(now + self._settings.deadline_seconds, capacity, places)
        return OpenRound(number, tuple(places.values()), capacity)

    def resume(
        self, opened: OpenRound, arrived: frozenset[str], now: float, missed: frozenset[str], early: frozenset[str]
    ) -> None:
        """Takes up a round that was open.

        Raises:
            ValueError: ``opened`` is not the next round, or ``early`` is not empty.
        """
        if early:
            raise ValueError("a synchronous round has no updates of later rounds")
        if opened.round != self._current.number:
            raise ValueError(f"round {opened.round} cannot be resumed when round {self._current.number} is next")
        places = {p.device: p for p in opened.cohort}
        self._open = _OpenRound(
            now + self._settings.deadline_seconds,
            opened.weight_capacity,
            places,
            arrived=set(arrived & places.keys()),
            missed=set((missed - arrived) & places.keys()),
        )

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device in the open round; None if ``round`` is not open or its update not wanted."""
        if self._current.phase is not Phase.COLLECTING or round != self._current.number:
            return None
        if device in self._open.arrived or device in self._open.missed:
            return None
        return self._open.cohort.get(device)

    def counts_in(self, device: str) -> int:  # noqa: ARG002  # the other mode needs it
        """Returns the round in which an update of a device counts if it arrives now: the open one."""
        return self._current.number

    def seconds_left(self, now: float) -> float:
        """Returns the seconds until the deadline of the open round."""
        return max(0.0, self._open.deadline - now)

    def next_wakeup(self) -> float:
        """Returns the time of the deadline, or of what can be done before it, in seconds."""
        # A resumed round may be complete already; the first TimePassed closes it.
        if not self._open.awaited and len(self._open.arrived) >= self._quorum():
            return -math.inf
        lacks = self._open.most < self._quorum()
        times = [self._open.deadline, *self._ready_devices.end_of_wait(self._open.awaited)]
        return min([*times, *(self._ready_devices.pauses() if lacks else [])])

    def welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Sends a device that became ready its task again, if it has a place whose update is still wanted."""
        place = self.member(member.device, self._current.number)
        if place is None:
            return
        if place.depth == member.depth:
            effects.append(SendTask(self._current.number, member.device))
        else:
            # The device has a new plan and holds another submodel. An extension may give it a new place.
            self._open.missed.add(member.device)

    def arrive(self, device: str) -> bool:
        """Notes that the update of a device has arrived; returns whether it was awaited."""
        awaited = self.member(device, self._current.number) is not None
        if awaited:
            self._open.arrived.add(device)
        return awaited

    def miss(self, device: str) -> bool:
        """Notes that the update of a device will not come; returns whether it was awaited."""
        awaited = self.member(device, self._current.number) is not None
        if awaited:
            self._open.missed.add(device)
        return awaited

    def outdate(self, device: str) -> None:
        """Does nothing: no newer model is published while a round is open."""

    def collect(self, now: float, effects: list[Effect]) -> bool:
        """Closes the round once it has its quorum and waits for no one; extends it where too few can deliver."""
        quorum, overdue = self._quorum(), now >= self._open.deadline
        awaited = self._open.awaited
        ended = awaited & self._ready_devices.ended()
        if len(self._open.arrived) >= quorum:
            closes = awaited == ended or overdue
            if closes:
                self._close(effects)
            return closes
        # At the deadline, devices that have not answered may never do; before it, only updates are replaced that were
        # missed, or whose devices were ended.
        likely = len(self._open.arrived) if overdue else self._open.most - len(ended)
        added = self._replacements(quorum - likely) if likely < quorum else []
        if added or overdue:
            retry = sorted(awaited & self._ready_devices.ready.keys()) if overdue else []
            self._extend(added, retry, quorum, now, effects)
        if not added and not self._open.awaited:
            self._ready_devices.end_run_if_none_fit(effects)
        return False

    def _quorum(self) -> int:
        """Returns how many updates the round needs to close: a share of its places, without those of unfit devices."""
        hopeless = {device for device in self._open.missed if self._ready_devices.fitness_tracker[device].out}
        places = (place for device, place in self._open.cohort.items() if device not in hopeless)
        return self._settings.quorum_of(sum(not place.replacement for place in places))

    def _close(self, effects: list[Effect]) -> None:
        arrived, missed = self._open.arrived, self._open.missed
        lost = sorted(self._open.cohort.keys() - arrived)
        effects.append(CloseRound(self._current.number, tuple(sorted(arrived)), tuple(lost)))
        silent = [device for device in lost if device not in missed and device in self._ready_devices.ready]
        self._ready_devices.fell_silent(silent, self._current.number, effects)

    def _extend(self, devices: list[str], retry: list[str], quorum: int, now: float, effects: list[Effect]) -> None:
        """Sets a new deadline, gives further devices places, and sends those of ``retry`` their tasks again."""
        opened, number = self._open, self._current.number
        said: list[Effect] = []
        opened.missed |= self._ready_devices.fell_silent(retry, number, said)
        added = [self._place(device) for device in devices]
        opened.cohort.update({p.device: p for p in added})
        self._current.cohort.add(added)
        opened.missed -= {p.device for p in added}
        opened.capacity = max(opened.capacity, opened.weight)
        opened.deadline = now + self._settings.deadline_seconds
        effects.append(ExtendRound(number, tuple(added), len(opened.arrived), quorum, opened.capacity))
        effects.extend(SendTask(number, device) for device in retry if device not in opened.missed)
        effects.extend(said)

    def _replacements(self, wanted: int) -> list[str]:
        """Chooses ready devices without a place first, then those that may try again and whose update was missed."""
        number, waiting, chosen = self._current.number, self._ready_devices, list[str]()
        fresh, failed = waiting.ready.keys() - self._open.cohort.keys(), waiting.ready.keys() & self._open.missed
        for spare in (waiting.fit(number) & fresh, waiting.retriable(failed), waiting.retriable(fresh)):
            if len(chosen) < wanted:
                chosen += waiting.draw(spare - set(chosen), wanted - len(chosen), number)
        return chosen

    def _place(self, device: str) -> CohortMember:
        before = self._open.cohort.get(device)
        place = msgspec.structs.replace(
            self._ready_devices.place(device), replacement=before is None or before.replacement
        )
        return self._assign(self._current.number, place)
