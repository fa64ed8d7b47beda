"""Implements asynchronous runs as a state machine: every K updates make a version of the model (FedBuff).

FedBuff is Nguyen et al., arXiv 2106.06639. A round is a version here: the open round collects the updates that the next
version is made of. A device that has delivered gets a task of the open round at once; its update may count some rounds
later, with a weight that falls with its staleness. docs/adr/0010-asynchronous-rounds.md has the rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from fedlp_edge.core.rounds.cohort import Assign, Cohort, as_drawn
from fedlp_edge.core.rounds.events import (
    AddPlaces,
    CloseRound,
    CohortMember,
    DeviceReady,
    DeviceUnable,
    Effect,
    Event,
    ExtendRound,
    FinishRun,
    ModelOutdated,
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
    """The round machine of an asynchronous run, from round ``next_round`` on.

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
        self._round = next_round
        self._ready_devices = ReadyDevices(settings, seed, expected, now, fitness)
        self._tasks: dict[str, _Task] = {}
        self._early: dict[str, CohortMember] = {}
        self._buffer: _Buffer | None = None
        self._assign = assign
        self.cohort = Cohort(next_round)
        self.phase = Phase.WAITING if next_round <= settings.count else Phase.FINISHED

    @property
    def round(self) -> int:
        """Number of the open round, or of the next one if none is open."""
        return self._round

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
            opened: Round that was open, or the last committed one if none was, with all places whose updates arrived
                or are awaited. A device may have one of each.
            arrived: Ids of devices whose update for this round is on disk.
            now: Present time in seconds.
            missed: Ids of devices that will not do their task of this round.
            early: Ids of devices whose update for the round after this one is on disk.
            cohort: Cohort object with the places of ``opened``; None to make one.

        Raises:
            ValueError: ``opened`` is neither the next round nor the one before it.
        """
        if opened.round not in (self._round - 1, self._round):
            raise ValueError(f"round {opened.round} cannot be resumed when round {self._round} is next")
        self.cohort = cohort or Cohort(opened.round, opened.cohort)
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
        if opened.round == self._round:
            self.phase = move(self.phase, Phase.COLLECTING)
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
        closed = self._buffer is not None and (self.phase is Phase.CLOSING or device in self._buffer.arrived)
        return self._round + closed

    def seconds_left(self, now: float) -> float:  # noqa: ARG002  # the machine of synchronous runs needs it
        """Returns the seconds until the deadline of a task that is given now; 0 if no round is open."""
        return self._settings.deadline_seconds if self._buffer else 0.0

    def next_wakeup(self) -> float | None:
        """Returns the time by which ``TimePassed`` must be sent, in seconds; None if the machine waits for events."""
        if self.phase is Phase.COLLECTING and self._buffer:
            if self._complete(self._buffer):
                return -math.inf
            times = [task.deadline for task in self._tasks.values() if self._replaceable(task)]
            times += self._ready_devices.end_of_wait(self._tasks)
            return min([self._buffer.deadline, *times, *([] if self._tasks else self._ready_devices.pauses())])
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
        self._ready_devices.take(event, self._round, now, effects)
        match event:
            case DeviceReady(member):
                self._welcome(member, effects)
            case DeviceUnable(device):
                self._miss(device)
            case UpdateArrived(device):
                if self._arrive(device):
                    self._ready_devices.clear_failures(device, effects)
            case UpdateMissed(device, fault, reason):
                if self._miss(device) and fault:
                    self._ready_devices.failed(device, fault, reason, self._round, effects)
            case ModelOutdated(device):
                if device in self._tasks and self._tasks[device].place.round < self._round:
                    self._give_up(device)
            case RoundCommitted(round, enough):
                self._commit(round, effects, enough=enough)
            case _:
                pass  # only time has passed, or only the ready devices change
        if self.phase is Phase.WAITING:
            self._try_open(now, effects)
        if self.phase is Phase.COLLECTING and self._buffer:
            self._collect(self._buffer, now, effects)
        return effects

    # Tasks

    def _welcome(self, member: CohortMember, effects: list[Effect]) -> None:
        """Lets a device that became ready continue its task, unless it holds another submodel now."""
        task = self._tasks.get(member.device)
        if task is None:
            return
        if task.place.depth != member.depth:
            self._give_up(member.device)
        elif task.place.round == self._round and self.phase is Phase.COLLECTING:
            effects.append(SendTask(self._round, member.device))

    def _arrive(self, device: str) -> bool:
        counts_now = self.counts_in(device) == self._round
        task = self._tasks.pop(device, None)
        if task and self._buffer and counts_now:
            self._buffer.arrived[device] = task.place
        elif task:
            self._early[device] = task.place
        return task is not None

    def _miss(self, device: str) -> bool:
        """Notes that the update of a device will not come; returns whether it was awaited."""
        awaited = self._give_up(device)
        if awaited and self._buffer:
            self._buffer.missed.add(device)
        return awaited

    def _give_up(self, device: str) -> bool:
        task = self._tasks.pop(device, None)
        if task and self._buffer:
            self._buffer.lost.add(device)
        return task is not None

    def _replaceable(self, task: _Task) -> bool:
        """Returns whether the device of a task is ready and could start from a newer model."""
        return task.place.round < self._round and task.place.device in self._ready_devices.ready

    def _give_up_overdue(self, now: float) -> None:
        for device, task in list(self._tasks.items()):
            if now >= task.deadline and self._replaceable(task):
                self._give_up(device)

    def _fill(self, buffer: _Buffer, now: float, candidates: set[str] | None = None) -> tuple[CohortMember, ...]:
        """Gives ready devices without a task one of the open round, as long as ``devices_per_round`` allows."""
        ready = self._ready_devices.ready
        able = self._ready_devices.fit(self._round) if candidates is None else candidates
        free = {d for d in able - self._tasks.keys() - buffer.missed if not self._has_done(buffer, d)}
        if self._settings.devices_per_round:
            vacant = self._settings.devices_per_round - len(ready.keys() & self._tasks.keys())
            free = set(self._ready_devices.draw(free, vacant, self._round)) if vacant > 0 else set()
        added = tuple(self._place(device) for device in sorted(free))
        deadline = now + self._settings.deadline_seconds
        self._tasks.update({place.device: _Task(place, deadline) for place in added})
        buffer.invited |= free
        buffer.capacity = max(buffer.capacity, self._weight(buffer))
        return added

    def _place(self, device: str) -> CohortMember:
        return self._assign(self._round, msgspec.structs.replace(self._ready_devices.place(device), round=self._round))

    def _has_done(self, buffer: _Buffer, device: str) -> bool:
        """Returns whether a device has already delivered an update that started from the newest model."""
        if device in self._early:
            return True
        return device in buffer.arrived and buffer.arrived[device].round == self._round

    # Rounds

    def _weight(self, buffer: _Buffer) -> int:
        """Returns the largest summed weight of the updates of the round."""
        return FRESH * sum(place.weight for place in self._places(buffer))

    def _places(self, buffer: _Buffer) -> list[CohortMember]:
        return [*buffer.arrived.values(), *(task.place for task in self._tasks.values())]

    def _try_open(self, now: float, effects: list[Effect]) -> None:
        if not self._ready_devices.enough(self._round, effects):
            return
        candidates = self._ready_devices.candidates(self._round)
        deadline = now + self._settings.deadline_seconds
        self._buffer, self._early = _Buffer(deadline, 1, self._early), {}
        self._give_up_overdue(now)
        for device, task in list(self._tasks.items()):
            if self._round - task.place.round > self._settings.max_staleness:
                self._give_up(device)
        self._buffer.invited = self._buffer.arrived.keys() | self._tasks.keys()
        if not self._full(self._buffer):
            self._fill(self._buffer, now, candidates)
        # Twice the largest sum, so that devices that join later rarely change the scale of the fixed-point sum.
        self._buffer.capacity = 2 * self._weight(self._buffer)
        self.phase = move(self.phase, Phase.COLLECTING)
        self.cohort = Cohort(self._round, self._places(self._buffer))
        effects.append(OpenRound(self._round, self.cohort.places, self._buffer.capacity))

    def _full(self, buffer: _Buffer) -> bool:
        return len(buffer.arrived) >= self._settings.buffer_size

    def _quorum(self, buffer: _Buffer) -> int:
        """Returns how many updates the round needs to close.

        This is a share of the buffer size, or of the number of its devices without unfit ones if that is smaller.
        """
        counted = [device for device in buffer.invited if not self._hopeless(buffer, device)]
        return self._settings.quorum_of(min(self._settings.buffer_size, len(counted)))

    def _hopeless(self, buffer: _Buffer, device: str) -> bool:
        return (
            device in buffer.missed and device not in buffer.arrived and self._ready_devices.fitness_tracker[device].out
        )

    def _complete(self, buffer: _Buffer) -> bool:
        """Returns whether the buffer is full, or no update is awaited and the quorum is reached."""
        awaited = self._tasks.keys() - self._ready_devices.ended()
        return self._full(buffer) or (not awaited and len(buffer.arrived) >= self._quorum(buffer))

    def _collect(self, buffer: _Buffer, now: float, effects: list[Effect]) -> None:
        if not self._full(buffer):
            self._give_up_overdue(now)
            if added := self._fill(buffer, now):
                self._take_in(buffer, added)
                effects.append(AddPlaces(self._round, added, buffer.capacity))
        overdue = now >= buffer.deadline
        if self._complete(buffer) or (overdue and len(buffer.arrived) >= self._quorum(buffer)):
            lost = tuple(sorted(buffer.lost - buffer.arrived.keys() - self._tasks.keys()))
            self.phase = move(self.phase, Phase.CLOSING)
            effects.append(CloseRound(self._round, tuple(sorted(buffer.arrived)), lost))
            return
        if overdue or (
            not self._tasks and self._ready_devices.retriable(self._ready_devices.ready.keys() & buffer.missed)
        ):
            self._extend(buffer, now, effects)
        if not self._tasks:
            self._ready_devices.end_run_if_none_fit(effects)

    def _take_in(self, buffer: _Buffer, added: tuple[CohortMember, ...]) -> None:
        self.cohort.add(added, [*buffer.arrived.values(), *self._early.values()])

    def _extend(self, buffer: _Buffer, now: float, effects: list[Effect]) -> None:
        """Sets a new deadline, sends tasks of this round again, and gives devices that missed it another task."""
        quorum, arrived = self._quorum(buffer), len(buffer.arrived)
        ready = self._ready_devices.ready
        asked = [device for device, task in self._tasks.items() if task.place.round == self._round]
        retry = sorted(device for device in asked if device in ready)
        said: list[Effect] = []
        for device in retry if now >= buffer.deadline else ():
            self._ready_devices.failed(device, DeviceFault.LOST, SILENT, self._round, said)
            if self._ready_devices.fitness_tracker[device].out:
                self._miss(device)
        again = self._ready_devices.retriable(self._ready_devices.ready.keys() & buffer.missed)
        buffer.missed -= again
        buffer.deadline = now + self._settings.deadline_seconds
        added = self._fill(buffer, now, again | self._ready_devices.fit(self._round))
        self._take_in(buffer, added)
        effects.append(ExtendRound(self._round, added, arrived, quorum, buffer.capacity))
        effects.extend(SendTask(self._round, device) for device in retry if device in self._tasks)
        effects.extend(said)

    def _commit(self, round: int, effects: list[Effect], *, enough: bool) -> None:
        if self.phase is not Phase.CLOSING or round != self._round:
            return
        self._buffer = None
        self._round += 1
        if enough or self._round > self._settings.count:
            self._tasks.clear()
            self.phase = move(self.phase, Phase.FINISHED)
            effects.append(FinishRun())
        else:
            self.phase = move(self.phase, Phase.WAITING)
