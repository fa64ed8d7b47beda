"""Whatever happens to an asynchronous fleet, in whatever order, the promises of its machine hold."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.rounds.events import (
    AddPlaces,
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
    ModelOutdated,
    OpenRound,
    Phase,
    RoundCommitted,
    SendTask,
    TimePassed,
    UpdateArrived,
    UpdateMissed,
)
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.rounds.staleness import weight_in

DEVICES = ("a", "b", "c", "d")


class Fleet:
    """A coordinator reduced to its bookkeeping: it journals what a real one would and checks every promise."""

    def __init__(self, rules: RoundSettings) -> None:
        self.rules = rules
        self.now = 0.0
        self.machine = make_round_machine(rules, seed=1, now=0.0)
        self.ready: set[str] = set()
        self.fitness: dict[str, Fitness] = {}
        self.closed = 0
        self.capacity = 0
        self.tasks: dict[str, CohortMember] = {}
        # Which round counts an update: by (device, round of its task).
        self.counted: dict[tuple[str, int], int] = {}
        self.counted_places: dict[tuple[str, int], CohortMember] = {}
        self.missed: dict[str, CohortMember] = {}

    def feed(self, event: Event) -> None:
        """Hands over an event, as a coordinator does: updates only if they are wanted, on disk before."""
        if isinstance(event, DeviceUnable):
            self.ready.discard(event.device)
        match event:
            case DeviceReady(member):
                self.ready.add(member.device)
            case DeviceGone(device):
                self.ready.discard(device)
            case UpdateArrived(device):
                task = self.tasks.get(device)
                if task is None or not self.machine.member(device, task.round):
                    return
                key = (device, task.round)
                assert key not in self.counted, "a task counts once"
                self.counted[key] = self.machine.counts_in(device)
                self.counted_places[key] = self.tasks.pop(device)
            case UpdateMissed(device) | DeviceUnable(device):
                task = self.tasks.get(device)
                wanted = task is not None and self.machine.member(device, task.round) is not None
                if isinstance(event, UpdateMissed) and not wanted:
                    return
                if not wanted:
                    self.tasks.pop(device, None)
                else:
                    self.missed[device] = self.tasks.pop(device)
        for effect in self.machine.handle(event, self.now):
            self.check(effect)
        wake = self.machine.next_wakeup()
        if isinstance(event, TimePassed):
            assert wake is None or wake > self.now, "a Tick must not ask for another one at once"

    def give(self, round: int, added: tuple[CohortMember, ...], capacity: int) -> None:
        assert capacity >= self.capacity
        self.capacity = capacity
        for place in added:
            assert place.round == round
            assert place.device in self.ready
            assert (place.device, round) not in self.counted, "nobody does a task twice"
            self.tasks[place.device] = place
            self.missed.pop(place.device, None)
        if self.rules.devices_per_round and added:
            busy = [d for d in self.ready & self.tasks.keys() if self.machine.member(d, self.tasks[d].round)]
            assert len(busy) <= self.rules.devices_per_round

    def check(self, effect: Effect) -> None:
        match effect:
            case OpenRound(round, places, capacity):
                assert round == self.closed + 1
                troubled = sum(fitness.failures > 0 for fitness in self.fitness.values())
                assert len(self.ready) >= max(1, self.rules.min_devices - troubled)
                self.capacity, self.missed = 0, {}
                early = {key for key, counts in self.counted.items() if counts == round}
                awaited = [p for p in places if (p.device, p.round) not in early]
                assert early <= {(p.device, p.round) for p in places}
                assert all(round - p.round <= self.rules.max_staleness for p in awaited)
                self.tasks = {p.device: p for p in awaited if p.round < round}
                self.give(round, tuple(p for p in awaited if p.round == round), capacity)
            case AddPlaces(round, added, capacity):
                self.give(round, added, capacity)
            case ExtendRound(round, added, contributors, quorum, capacity):
                assert contributors == len(self.contributors(round)) < quorum
                self.give(round, added, capacity)
            case SendTask(round, device):
                assert self.tasks[device].round == round, "only the served model can be asked for"
            case CloseRound(round, contributors, lost):
                keys = self.contributors(round)
                assert contributors == tuple(sorted(device for device, _ in keys))
                assert len(set(contributors)) == len(contributors) >= 1
                assert not set(contributors) & set(lost)
                assert all(0 <= round - started <= self.rules.max_staleness for _, started in keys)
                weights = [weight_in(self.rules, self.counted_places[k].weight, k[1], round) for k in keys]
                assert sum(weights) <= self.capacity
                self.closed = round
            case FitnessChanged(device, fitness):
                self.fitness[device] = fitness
            case FinishRun():
                assert self.closed == self.rules.count

    def contributors(self, round: int) -> list[tuple[str, int]]:
        return [key for key, counts in self.counted.items() if counts == round]

    def restart(self) -> None:
        """The coordinator is killed and started again; only what it journaled is left."""
        phase, round = self.machine.phase, self.machine.round
        if phase is Phase.FINISHED:
            return
        self.machine = make_round_machine(
            self.rules, seed=1, now=self.now, next_round=round, expected=frozenset(self.ready), fitness=self.fitness
        )
        self.ready = set()
        self.closed = round - 1
        known = round if phase is not Phase.WAITING else round - 1
        if known:
            counted = [self.counted_places[key] for key in (*self.contributors(known), *self.contributors(known + 1))]
            places = (*counted, *self.tasks.values(), *self.missed.values())
            self.machine.resume(
                OpenRound(known, places, self.capacity),
                frozenset(device for device, _ in self.contributors(known)),
                self.now,
                missed=frozenset(self.missed),
                early=frozenset(device for device, _ in self.contributors(known + 1)),
            )
        self.feed(TimePassed())


def member(device: str, depth: int, weight: int) -> CohortMember:
    return CohortMember(device, depth, 1.0, weight, weight)


devices = st.sampled_from(DEVICES)
happenings = st.one_of(
    st.builds(DeviceReady, st.builds(member, devices, st.integers(1, 2), st.sampled_from([1, 10, 1000]))),
    st.builds(DeviceGone, devices, st.booleans()),
    st.builds(UpdateArrived, devices),
    st.builds(UpdateArrived, devices),
    st.builds(UpdateMissed, devices),
    st.builds(UpdateMissed, devices, st.sampled_from(DeviceFault), st.just("why")),
    st.builds(UpdateMissed, devices, st.just(DeviceFault.WORKER), st.just("why")),
    st.builds(DeviceUnable, devices, st.sampled_from(DeviceFault), st.just("why")),
    st.builds(DeviceChanged, devices),
    st.builds(ModelOutdated, devices),
    st.just(100.0),
    st.just("commit"),
    st.just("restart"),
    st.floats(0.0, 150.0),
)
rules = st.builds(
    RoundSettings,
    mode=st.just("buffered"),
    count=st.integers(1, 5),
    buffer_size=st.integers(1, 5),
    devices_per_round=st.sampled_from([0, 3]),
    min_devices=st.integers(1, 3),
    deadline_seconds=st.just(100.0),
    quorum=st.sampled_from([0.0, 0.5, 1.0]),
    rejoin_seconds=st.sampled_from([0.0, 20.0]),
    staleness_exponent=st.sampled_from([0.0, 0.5, 2.0]),
    max_staleness=st.integers(0, 2),
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
    play(Fleet(rules), story)


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
            fleet.feed(UpdateArrived(device))
        fleet.feed(RoundCommitted(fleet.machine.round))
        fleet.now += 100.0
        fleet.feed(TimePassed())
        fleet.feed(RoundCommitted(fleet.machine.round))
    assert fleet.machine.phase is Phase.FINISHED
    assert fleet.closed == rules.count
