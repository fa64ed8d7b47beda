"""This module decides which device works when, for which round, and whose updates count, in virtual time.

It drives the round machine of the real coordinator with a virtual clock. The schedule does not depend on what devices
learn, so a run that continues after an interruption repeats its schedule from the start, without training the committed
rounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from fedlp_edge.core.algorithm.aggregation import capacity_of
from fedlp_edge.core.rounds import events as told
from fedlp_edge.core.rounds.events import CohortMember, Phase
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.errors import DeviceError
from fedlp_edge.simulation import virtual_time
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice

MAX_ATTEMPTS = 1000
"""Attempts of a round for which too few devices are present, or deliver; then the run ends with an error."""

Assign = Callable[[int, CohortMember], CohortMember]


@dataclass(frozen=True)
class RoundOpening:
    """This step says that a round is open, with the devices that work for it."""

    round: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class RoundExtended:
    """This step says that too few updates came by the deadline, so that the round is extended."""

    round: int
    contributors: int
    quorum: int


@dataclass(frozen=True)
class DevicesMissing:
    """This step says that too few devices are present for a round."""

    present: int
    wanted: int


@dataclass(frozen=True)
class RoundClosing:
    """This step says that a round has the updates that count.

    Attributes:
        contributors: Cohort members whose updates count, by device id; each has the round of its task.
        lost: Cohort members that sent no update, by device id.
        late: Cohort members that still train, but whose updates will not count, by device id.
        given: Cohort members of this round, by device id; those of its extensions included.
        capacity: Bound of the summed update weights; that of the contributors, unless rounds overlap.
        seconds: Seconds of virtual time since the round opened.
        oldest_task: Earliest round whose task a device still works on; the next round if there is none.
    """

    round: int
    contributors: Mapping[str, CohortMember]
    lost: Mapping[str, CohortMember]
    late: Mapping[str, CohortMember]
    given: Mapping[str, CohortMember]
    capacity: int
    seconds: float
    oldest_task: int


Step = RoundOpening | RoundExtended | DevicesMissing | RoundClosing


class Schedule:
    """The schedule of one run.

    Args:
        experiment: Experiment, with its sizes, times and probabilities.
        fleet: Devices by id.
        assign: Function that returns a cohort member with the rates of its round, called when the task is given.
    """

    def __init__(self, experiment: Experiment, fleet: Mapping[str, VirtualDevice], assign: Assign) -> None:
        self._experiment = experiment
        self._fleet = fleet
        self._assign = assign
        self._timeline = virtual_time.Timeline()
        self._effects: deque[told.Effect] = deque()
        self._ready: set[str] = set()
        self._tasks: dict[str, CohortMember] = {}
        self._delivered: dict[int, dict[str, CohortMember]] = {}
        self._given: dict[str, CohortMember] = {}
        self._capacity = 1
        self._began = 0.0
        self._attempts = 0
        self._waits = 0
        present = self._present(1)
        # The machine waits for present devices, so that the first cohort is drawn from all of them.
        settings = msgspec.structs.replace(experiment.rounds, rejoin_seconds=1.0)
        self._machine = make_round_machine(settings, experiment.seed, now=0.0, expected=frozenset(present))
        self._gather(present)

    @property
    def round(self) -> int:
        """Number of the open round, or of the next one."""
        return self._machine.round

    def steps(self) -> Iterator[Step]:
        """Yields the steps in order; the round after a ``RoundClosing`` begins when the next step is requested.

        Raises:
            DeviceError: Too few devices are present, or deliver, in every attempt.
        """
        while self._machine.phase is not Phase.FINISHED:
            if self._effects:
                yield from self._carry_out(self._effects.popleft())
            elif self._machine.phase is Phase.WAITING:
                yield self._wait()
            else:
                self._advance_clock()

    def _tell(self, event: told.Event) -> None:
        self._effects.extend(self._machine.handle(event, self._timeline.now))

    def _advance_clock(self) -> None:
        device = self._timeline.advance(self._machine.next_wakeup())
        if device is None:
            self._tell(told.TimePassed())
            return
        place = self._tasks[device]
        if self._machine.member(device, place.task_round(self._machine.round)) is None:
            return  # the task was given up
        counted = self._machine.counts_in(device)
        self._delivered.setdefault(counted, {})[device] = self._tasks.pop(device)
        self._tell(told.UpdateArrived(device))

    def _carry_out(self, effect: told.Effect) -> Iterator[Step]:
        match effect:
            case told.OpenRound(number, places, capacity):
                self._capacity, self._began, self._attempts, self._waits = capacity, self._timeline.now, 0, 0
                self._given = {}
                # If rounds overlap, some of these cohort members belong to earlier rounds.
                self._give(number, (place for place in places if place.task_round(number) == number))
                yield RoundOpening(number, tuple(place.device for place in places))
            case told.AddPlaces(number, added, capacity):
                self._capacity = capacity
                self._give(number, added)
            case told.ExtendRound(number, added, contributors, quorum, capacity):
                self._capacity = capacity
                self._try_again(number)
                self._give(number, added)
                yield RoundExtended(number, contributors, quorum)
            case told.SendTask(_, device):
                if not self._timeline.is_expected(device):
                    self._expect(device)
            case told.FitnessChanged(device, fitness) if fitness.failures:
                # Virtual devices fail at random, which says nothing about their next task.
                self._tell(told.DeviceChanged(device))
            case told.CloseRound():
                yield self._close(effect)
                if effect.round < self._experiment.rounds.count:
                    self._gather(self._present(effect.round + 1))
                self._tell(told.RoundCommitted(effect.round))
            case _:
                pass  # the machine's phase also says whether devices are missing or the run is over

    def _give(self, number: int, places: Iterable[CohortMember]) -> None:
        for place in places:
            self._tasks[place.device] = self._given[place.device] = self._assign(number, place)
            self._expect(place.device)

    def _expect(self, device: str) -> None:
        """Schedules a device's delivery, unless the device drops out."""
        number = self._tasks[device].task_round(self._machine.round)
        if virtual_time.drops_out(self._experiment.fleet, self._experiment.seed, number, device, self._attempts):
            self._timeline.cancel(device)
        else:
            self._timeline.expect(device, self._fleet[device].plan.seconds)

    def _try_again(self, number: int) -> None:
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            raise DeviceError(
                f"round {number} gets too few updates, {MAX_ATTEMPTS} times in a row: lengthen [rounds] "
                "deadline_seconds, or lower quorum or [fleet] dropout"
            )

    def _close(self, closing: told.CloseRound) -> RoundClosing:
        delivered = self._delivered.pop(closing.round, {})
        late: dict[str, CohortMember] = {}
        known = self._given | self._tasks
        lost = {device: known[device] for device in closing.lost if device in known}
        if self._experiment.rounds.mode == "synchronous":
            late = {device: place for device, place in lost.items() if self._timeline.is_expected(device)}
            self._tasks.clear()
            self._timeline.forget()
        early = [place for places in self._delivered.values() for place in places.values()]
        awaited = [place for place in self._tasks.values() if self._machine.member(place.device, place.round)]
        contributors = {device: delivered[device] for device in closing.contributors}
        capacity = self._capacity
        if self._experiment.rounds.mode == "synchronous":
            capacity = capacity_of(place.weight for place in contributors.values())
        return RoundClosing(
            round=closing.round,
            contributors=contributors,
            lost=lost,
            late=late,
            given=self._given,
            capacity=capacity,
            seconds=self._timeline.now - self._began,
            oldest_task=min((place.round for place in early + awaited), default=closing.round + 1),
        )

    # The presence of devices

    def _present(self, round: int) -> list[str]:
        """Returns the devices that are present when a round opens."""
        settings, seed = self._experiment.fleet, self._experiment.seed
        return [
            device.id
            for device in self._fleet.values()
            if device.plan.depth and virtual_time.is_available(settings, seed, round, device.id, self._waits)
        ]

    def _gather(self, present: list[str]) -> None:
        """Tells the machine which devices came and left."""
        for device in sorted(self._ready - set(present)):
            self._tell(told.DeviceGone(device))
        for device in present:
            if device not in self._ready:
                self._tell(told.DeviceReady(self._fleet[device].member))
        self._ready = set(present)

    def _wait(self) -> DevicesMissing:
        """Lets time pass until the next draw of present devices, since too few are present."""
        present, wanted = len(self._ready), self._experiment.rounds.min_devices
        self._waits += 1
        if self._waits > MAX_ATTEMPTS:
            raise DeviceError(
                f"{wanted} devices are never there at once: lower [rounds] min_devices, or raise [fleet] availability"
            )
        self._timeline.now += 1.0
        self._gather(self._present(self._machine.round))
        self._tell(told.TimePassed())
        return DevicesMissing(present, wanted)
