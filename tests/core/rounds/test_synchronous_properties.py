"""Whatever happens to a fleet, in whatever order, the promises of the round machine hold."""

import math
from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.rounds.events import (
    CloseRound,
    CohortMember,
    DeviceChanged,
    DeviceGone,
    DeviceReady,
    DeviceUnable,
    Effect,
    Event,
    ExtendRound,
    FinishRun,
    FitnessChanged,
    OpenRound,
    Phase,
    RoundCommitted,
    TimePassed,
    UpdateArrived,
    UpdateMissed,
)
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.core.rounds.settings import RoundSettings

DEVICES = ("a", "b", "c")
"""Few, so that random stories often come to the edge of a quorum."""


class Fleet:
    """A coordinator reduced to its bookkeeping: it journals what a real one would and checks every promise."""

    def __init__(self, rules: RoundSettings) -> None:
        self.rules = rules
        self.now = 0.0
        self.machine = make_round_machine(rules, seed=1, now=0.0)
        self.ready: set[str] = set()
        self.fitness: dict[str, Fitness] = {}
        self.closed: list[int] = []
        self.finished = False
        self._forget_round()

    def _forget_round(self) -> None:
        self.places: dict[str, CohortMember] = {}
        self.capacity = 0
        self.arrived: set[str] = set()
        self.missed: set[str] = set()

    def feed(self, event: Event) -> None:
        """Hands over an event, as a coordinator does: updates only if they are wanted, on disk before."""
        if isinstance(event, DeviceUnable):
            self.ready.discard(event.device)
        match event:
            case DeviceReady(member):
                self.ready.add(member.device)
            case DeviceGone(device):
                self.ready.discard(device)
            case UpdateArrived(device) if self.machine.member(device, self.machine.round):
                self.arrived.add(device)
            case UpdateMissed(device) | DeviceUnable(device) if self.machine.member(device, self.machine.round):
                self.missed.add(device)
        for effect in self.machine.handle(event, self.now):
            self.check(effect)
        wake = self.machine.next_wakeup()
        if isinstance(event, TimePassed):
            assert wake is None or wake > self.now, "a Tick must not ask for another one at once"

    def check(self, effect: Effect) -> None:
        match effect:
            case OpenRound(number, cohort, capacity):
                assert number == len(self.closed) + 1
                assert {p.device for p in cohort} <= self.ready
                troubled = sum(fitness.failures > 0 for fitness in self.fitness.values())
                assert len(cohort) >= max(1, self.rules.min_devices - troubled)
                assert not any(self.fitness.get(p.device, Fitness()).lasting for p in cohort)
                assert len(cohort) <= (self.rules.devices_per_round or len(DEVICES))
                self._forget_round()
                self.places = {p.device: p for p in cohort}
                self.capacity = capacity
            case ExtendRound(_, added, contributors, quorum, capacity):
                assert contributors == len(self.arrived) < quorum <= self.needed(self.missed)
                assert quorum >= self.needed(self.places.keys() - self.arrived)
                assert not {p.device for p in added} & self.arrived
                assert capacity >= self.capacity
                self.places.update({p.device: p for p in added})
                self.missed -= {p.device for p in added}
                self.capacity = capacity
            case CloseRound(number, contributors, lost):
                assert len(set(contributors)) == len(contributors) >= self.needed(self.places.keys() - self.arrived)
                assert set(contributors) == self.arrived
                assert set(contributors) | set(lost) == self.places.keys()
                assert not set(contributors) & set(lost)
                assert sum(self.places[device].weight for device in contributors) <= self.capacity
                self.closed.append(number)
            case FitnessChanged(device, fitness):
                self.fitness[device] = fitness
            case FinishRun():
                assert self.closed == list(range(1, self.rules.count + 1))
                self.finished = True

    def needed(self, missed: Collection[str]) -> int:
        """The quorum: of the places but those of unfit devices among ``missed``."""
        out = {device for device in missed if self.machine.fitness(device).out}
        places = sum(not place.replacement for device, place in self.places.items() if device not in out)
        return max(1, math.ceil(self.rules.quorum * places))

    def restart(self) -> None:
        """The coordinator is killed and started again; only what it journaled is left."""
        if self.machine.phase is Phase.FINISHED:
            return
        committed = len(self.closed) - (self.machine.phase is Phase.CLOSING)
        phase = self.machine.phase
        self.machine = make_round_machine(
            self.rules,
            seed=1,
            now=self.now,
            next_round=committed + 1,
            expected=frozenset(self.ready),
            fitness=self.fitness,
        )
        self.ready = set()
        if phase is not Phase.WAITING:
            self.closed = self.closed[:committed]
            opened = OpenRound(committed + 1, tuple(self.places.values()), self.capacity)
            self.machine.resume(opened, frozenset(self.arrived), self.now, missed=frozenset(self.missed))
        self.feed(TimePassed())


def member(device: str, depth: int, weight: int) -> CohortMember:
    return CohortMember(device, depth, 1.0, weight, weight)


devices = st.sampled_from(DEVICES)
happenings = st.one_of(
    st.builds(DeviceReady, st.builds(member, devices, st.integers(1, 2), st.sampled_from([1, 10, 1000]))),
    st.builds(DeviceGone, devices, st.booleans()),
    st.builds(UpdateArrived, devices),
    st.builds(UpdateMissed, devices),
    st.builds(UpdateMissed, devices, st.sampled_from(DeviceFault), st.just("why")),
    st.builds(UpdateMissed, devices, st.just(DeviceFault.WORKER), st.just("why")),
    st.builds(DeviceUnable, devices, st.sampled_from(DeviceFault), st.just("why")),
    st.builds(DeviceChanged, devices),
    st.just(100.0),
    st.builds(RoundCommitted, st.integers(1, 3)),
    st.just("commit"),
    st.just("restart"),
    st.floats(0.0, 150.0),
)
rules = st.builds(
    RoundSettings,
    count=st.integers(1, 3),
    devices_per_round=st.sampled_from([0, 3]),
    min_devices=st.integers(1, 3),
    deadline_seconds=st.just(100.0),
    quorum=st.sampled_from([0.0, 0.5, 1.0]),
    rejoin_seconds=st.sampled_from([0.0, 20.0]),
)


def play(fleet: Fleet, story) -> None:
    """Everybody gets ready, so that a round opens; then the story takes its course."""
    for device in DEVICES:
        fleet.feed(DeviceReady(member(device, 1, 10)))
    for happening in story:
        match happening:
            case float():
                fleet.now += happening
                fleet.feed(TimePassed())
            case "restart":
                fleet.restart()
            case "commit":
                fleet.feed(RoundCommitted(fleet.machine.round))
            case _:
                fleet.feed(happening)


@settings(max_examples=300, deadline=None)
@given(rules, st.lists(happenings, min_size=5, max_size=60))
def test_machine_keeps_its_promises_in_every_story(rules: RoundSettings, story):
    fleet = Fleet(rules)
    play(fleet, story)


@settings(max_examples=150, deadline=None)
@given(rules, st.lists(happenings, min_size=5, max_size=40))
def test_run_can_be_finished_after_every_story(rules: RoundSettings, story):
    """Once all devices are there and do what they are asked, no earlier mishap keeps the run from its end."""
    fleet = Fleet(rules)
    play(fleet, story)
    for _ in range(4 * rules.count):
        for device in DEVICES:
            fleet.feed(DeviceChanged(device))
            fleet.feed(DeviceReady(member(device, 1, 10)))
        for device in DEVICES:
            if fleet.machine.member(device, fleet.machine.round):
                fleet.feed(UpdateArrived(device))
        fleet.feed(RoundCommitted(fleet.machine.round))
        fleet.now += 100.0
        fleet.feed(TimePassed())
        fleet.feed(RoundCommitted(fleet.machine.round))
    assert fleet.machine.phase is Phase.FINISHED
    assert fleet.closed == list(range(1, rules.count + 1))
