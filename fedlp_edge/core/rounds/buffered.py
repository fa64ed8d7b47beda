"""Implements the rules of asynchronous runs: every K updates make a version of the model (FedBuff).

FedBuff is Nguyen et al., arXiv 2106.06639. A round is a version here: the open round collects the updates that the next
version is made of. A device that has delivered gets a task of the open round at once; its update may count some rounds
later, with a weight that falls with its staleness. docs/adr/0010-asynchronous-rounds.md has the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec

from fedlp_edge.core.rounds.cohort import Assign, Cohort
from fedlp_edge.core.rounds.current_round import CurrentRound
from fedlp_edge.core.rounds.events import (
    AddPlaces,
    CloseRound,
    CohortMember,
    Effect,
    ExtendRound,
    OpenRound,
    Phase,
    SendTask,
)
from fedlp_edge.core.rounds.ready_devices import ReadyDevices
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.rounds.staleness import FRESH


@dataclass
class _Task:
    """A task whose update is awaited.

    Attributes:
        place: Place of the device, with the round of the task.
        deadline: Time after which the task may be given up, in seconds.
    """

    place: CohortMember
    deadline: float


@dataclass
class _Buffer:
    """The open round.

    Attributes:
        deadline: Time at which the round closes or is extended, in seconds.
        capacity: Upper bound of the summed weights.
        arrived: Places whose updates count in the round, by device id.
        invited: Ids of devices that had a place in the round.
        missed: Ids of devices that get no task before the next round, or before this one is extended.
        lost: Ids of devices whose task was given up since the previous round closed.
    """

    deadline: float
    capacity: int
    arrived: dict[str, CohortMember]
    invited: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


class BufferedRounds:
    """The mode in which rounds overlap; see ``RoundMode`` for what the methods do.

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
        self._tasks: dict[str, _Task] = {}
        self._early: dict[str, CohortMember] = {}  # places whose updates count in the next round
        self._buffer = _Buffer(-math.inf, 0, {})  # none before the first; between two, the one before

    def open(self, candidates: set[str], now: float) -> OpenRound:
        """Opens the round with the updates that came early, the tasks that go on, and new ones for candidates."""
        buffer = self._buffer = _Buffer(now + self._settings.deadline_seconds, 1, self._early)
        self._early = {}
        self._give_up_overdue(now)
        for device, task in list(self._tasks.items()):
            if self._current.number - task.place.round > self._settings.max_staleness:
                self._give_up(device)
        buffer.invited = buffer.arrived.keys() | self._tasks.keys()
        if not self._full():
            self._fill(now, candidates)
        # Twice the largest sum, so that devices that join later rarely change the scale of the fixed-point sum.
        buffer.capacity = 2 * self._weight()
        return OpenRound(self._current.number, Cohort(self._current.number, self._places()).places, buffer.capacity)

    def resume(
        self, opened: OpenRound, arrived: frozenset[str], now: float, missed: frozenset[str], early: frozenset[str]
    ) -> None:
        """Takes up the tasks and the updates of the round that was open, or of the one before.

        Raises:
            ValueError: ``opened`` is neither the next round nor the one before it.
        """
        if opened.round not in (self._current.number - 1, self._current.number):
            raise ValueError(f"round {opened.round} cannot be resumed when round {self._current.number} is next")
        deadline = now + self._settings.deadline_seconds
        counted: dict[str, CohortMember] = {}
        for place in sorted(opened.cohort, key=lambda place: place.round):
            # A device gets its next task only after it has delivered, so its earliest place is the delivered one.
            if place.device in arrived and place.device not in counted:
                counted[place.device] = place
            elif place.device in early and place.device not in self._early:
                self._early[place.device] = place
            elif place.device not in missed:
                self._tasks[place.device] = _Task(place, deadline)
        if opened.round == self._current.number:
            invited = {place.device for place in opened.cohort}
            self._buffer = _Buffer(deadline, opened.weight_capacity, counted, invited, set(missed), set(missed))

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device for its task of ``round``; None if its update is not wanted."""
        task = self._tasks.get(device)
        if task is None or task.place.round != round:
            return None
        too_stale = self.counts_in(device) - round > self._settings.max_staleness
        return None if too_stale else task.place

    def counts_in(self, device: str) -> int:
        """Returns the round in which an update of a device counts if it arrives now; each counts a device once."""
        closing = self._current.phase is Phase.CLOSING
        counted = self._current.phase is Phase.COLLECTING and device in self._buffer.arrived
        return self._current.number + (closing or counted)

    def seconds_left(self, now: float) -> float:  # noqa: ARG002  # the other mode needs it
        """Returns the seconds that a task has which is given now: each has its own deadline."""
        return self._settings.deadline_seconds

    def next_wakeup(self) -> float:
        """Returns the time of the deadline, or of what can be done before it, in seconds."""
        if self._complete():
            return -math.inf
        times = [task.deadline for task in self._tasks.values() if self._replaceable(task)]
        times += self._ready_devices.end_of_wait(self._tasks)
        return min([self._buffer.deadline, *times, *([] if self._tasks else self._ready_devices.pauses())])

    # What happens to the task of a device

    def welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Lets a device that became ready continue its task, unless it holds another submodel now."""
        task = self._tasks.get(member.device)
        if task is None:
            return
        if task.place.depth != member.depth:
            self._give_up(member.device)
        elif task.place.round == self._current.number and self._current.phase is Phase.COLLECTING:
            effects.append(SendTask(self._current.number, member.device))

    def arrive(self, device: str) -> bool:
        """Notes that the update of a device has arrived; returns whether it was awaited."""
        counts_now = self._current.phase is Phase.COLLECTING and device not in self._buffer.arrived
        task = self._tasks.pop(device, None)
        if task:
            (self._buffer.arrived if counts_now else self._early)[device] = task.place
        return task is not None

    def miss(self, device: str) -> bool:
        """Notes that the update of a device will not come; returns whether it was awaited."""
        awaited = self._give_up(device)
        if awaited:
            self._buffer.missed.add(device)
        return awaited

    def outdate(self, device: str) -> None:
        """Gives up the task of a device if newer rounds have replaced the model that it starts from."""
        if device in self._tasks and self._tasks[device].place.round < self._current.number:
            self._give_up(device)

    def _give_up(self, device: str) -> bool:
        task = self._tasks.pop(device, None)
        if task:
            self._buffer.lost.add(device)
        return task is not None

    def _replaceable(self, task: _Task) -> bool:
        """Returns whether the device of a task is ready and could start from a newer model."""
        return task.place.round < self._current.number and task.place.device in self._ready_devices.ready

    def _give_up_overdue(self, now: float) -> None:
        for device, task in list(self._tasks.items()):
            if now >= task.deadline and self._replaceable(task):
                self._give_up(device)

    def _fill(self, now: float, candidates: set[str]) -> tuple[CohortMember, ...]:
        """Gives candidates without a task one of the open round, as long as ``devices_per_round`` allows."""
        buffer, number, ready = self._buffer, self._current.number, self._ready_devices.ready
        free = {d for d in candidates - self._tasks.keys() - buffer.missed if not self._has_done(d)}
        if self._settings.devices_per_round:
            vacant = self._settings.devices_per_round - len(ready.keys() & self._tasks.keys())
            free = set(self._ready_devices.draw(free, vacant, number)) if vacant > 0 else set()
        added = tuple(self._place(device) for device in sorted(free))
        deadline = now + self._settings.deadline_seconds
        self._tasks.update({place.device: _Task(place, deadline) for place in added})
        buffer.invited |= free
        buffer.capacity = max(buffer.capacity, self._weight())
        return added

    def _place(self, device: str) -> CohortMember:
        number = self._current.number
        return self._assign(number, msgspec.structs.replace(self._ready_devices.place(device), round=number))

    def _has_done(self, device: str) -> bool:
        """Returns whether a device has already delivered an update that started from the newest model."""
        if device in self._early:
            return True
        arrived = self._buffer.arrived.get(device)
        return arrived is not None and arrived.round == self._current.number

    # The open round

    def collect(self, now: float, effects: list[Effect]) -> bool:
        """Gives tasks to devices that are free; closes the round, or extends it, when it is time."""
        buffer = self._buffer
        if not self._full():
            self._give_up_overdue(now)
            if added := self._fill(now, self._ready_devices.fit(self._current.number)):
                self._take_in(added)
                effects.append(AddPlaces(self._current.number, added, buffer.capacity))
        overdue = now >= buffer.deadline
        if self._complete() or (overdue and len(buffer.arrived) >= self._quorum()):
            lost = tuple(sorted(buffer.lost - buffer.arrived.keys() - self._tasks.keys()))
            effects.append(CloseRound(self._current.number, tuple(sorted(buffer.arrived)), lost))
            return True
        if overdue or (not self._tasks and self._to_ask_again()):
            self._extend(now, effects)
        if not self._tasks:
            self._ready_devices.end_run_if_none_fit(effects)
        return False

    def _places(self) -> list[CohortMember]:
        return [*self._buffer.arrived.values(), *(task.place for task in self._tasks.values())]

    def _weight(self) -> int:
        """Returns the largest summed weight of the updates of the round."""
        return FRESH * sum(place.weight for place in self._places())

    def _full(self) -> bool:
        return len(self._buffer.arrived) >= self._settings.buffer_size

    def _complete(self) -> bool:
        """Returns whether the buffer is full, or no update is awaited and the quorum is reached."""
        awaited = self._tasks.keys() - self._ready_devices.ended()
        return self._full() or (not awaited and len(self._buffer.arrived) >= self._quorum())

    def _quorum(self) -> int:
        """Returns how many updates the round needs to close.

        This is a share of the buffer size, or of the number of its devices without unfit ones if that is smaller.
        """
        counted = [device for device in self._buffer.invited if not self._hopeless(device)]
        return self._settings.quorum_of(min(self._settings.buffer_size, len(counted)))

    def _hopeless(self, device: str) -> bool:
        missed = device in self._buffer.missed and device not in self._buffer.arrived
        return missed and self._ready_devices.fitness_tracker[device].out

    def _to_ask_again(self) -> set[str]:
        """Returns the ids of ready devices that missed the round and may try again."""
        return self._ready_devices.retriable(self._ready_devices.ready.keys() & self._buffer.missed)

    def _take_in(self, added: tuple[CohortMember, ...]) -> None:
        self._current.cohort.add(added, [*self._buffer.arrived.values(), *self._early.values()])

    def _extend(self, now: float, effects: list[Effect]) -> None:
        """Sets a new deadline, sends tasks of this round again, and gives devices that missed it another task."""
        buffer, number, quorum = self._buffer, self._current.number, self._quorum()
        asked = [device for device, task in self._tasks.items() if task.place.round == number]
        retry = sorted(device for device in asked if device in self._ready_devices.ready)
        said: list[Effect] = []
        for device in self._ready_devices.fell_silent(retry if now >= buffer.deadline else [], number, said):
            self.miss(device)
        again = self._to_ask_again()
        buffer.missed -= again
        buffer.deadline = now + self._settings.deadline_seconds
        added = self._fill(now, again | self._ready_devices.fit(number))
        self._take_in(added)
        effects.append(ExtendRound(number, added, len(buffer.arrived), quorum, buffer.capacity))
        effects.extend(SendTask(number, device) for device in retry if device in self._tasks)
        effects.extend(said)
