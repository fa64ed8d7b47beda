import math

import pytest

from fedlp_edge.core.rounds.events import (
    CloseRound,
    CohortMember,
    DeviceGone,
    DeviceReady,
    DeviceReported,
    ExtendRound,
    FinishRun,
    FitnessChanged,
    OpenRound,
    Phase,
    RoundCommitted,
    SendTask,
    TimePassed,
    TooFewDevices,
    UpdateArrived,
    UpdateMissed,
)
from fedlp_edge.core.rounds.machine import RoundMachine, make_round_machine
from fedlp_edge.core.rounds.settings import RoundSettings


def place(device: str, *, weight: int = 10, depth: int = 2, replacement: bool = False) -> CohortMember:
    return CohortMember(device, depth, 1.0, weight, weight, replacement)


def machine(now: float = 0.0, next_round: int = 1, expected: frozenset[str] = frozenset(), **rounds) -> RoundMachine:
    settings = RoundSettings(**{"count": 2, "deadline_seconds": 100.0, "rejoin_seconds": 20.0, **rounds})
    return make_round_machine(settings, seed=1, now=now, next_round=next_round, expected=expected)


def ready(run: RoundMachine, *devices: str, now: float = 0.0):
    """Effects of these devices getting ready, one after the other."""
    return [effect for device in devices for effect in run.handle(DeviceReady(place(device)), now)]


def names(cohort) -> list[str]:
    return [p.device for p in cohort]


def test_run_goes_through_its_rounds_to_the_end():
    run = machine(min_devices=2)
    assert ready(run, "a") == [TooFewDevices(present=1, wanted=2)]
    assert ready(run, "b") == [OpenRound(1, (place("a"), place("b")), weight_capacity=40)]
    assert run.phase is Phase.COLLECTING
    assert run.handle(UpdateArrived("b"), 5.0) == []
    assert run.handle(UpdateArrived("a"), 6.0) == [CloseRound(1, contributors=("a", "b"), lost=())]
    assert run.phase is Phase.CLOSING
    assert run.handle(RoundCommitted(1), 7.0) == [OpenRound(2, (place("a"), place("b")), weight_capacity=40)]
    run.handle(UpdateArrived("a"), 8.0)
    assert run.handle(UpdateArrived("b"), 9.0) == [CloseRound(2, contributors=("a", "b"), lost=())]
    assert run.handle(RoundCommitted(2), 10.0) == [FinishRun()]
    assert run.phase is Phase.FINISHED
    assert run.handle(DeviceReady(place("c")), 11.0) == []


def test_run_waits_for_the_fewest_devices_and_says_so_once():
    run = machine(min_devices=3)
    assert ready(run, "a", "a") == [TooFewDevices(1, 3)]
    assert run.handle(TimePassed(), 50.0) == []
    assert ready(run, "b") == [TooFewDevices(2, 3)]
    assert run.handle(DeviceGone("b"), 51.0) == [TooFewDevices(1, 3)]
    assert run.next_wakeup() is None


def test_run_samples_a_cohort_of_the_size_asked_for():
    run = machine(min_devices=3, devices_per_round=3)
    opened = ready(run, "a", "b", "c")[-1]
    assert names(opened.cohort) == ["a", "b", "c"]
    ready(run, "d", "e")
    for device in "abc":
        run.handle(UpdateArrived(device), 1.0)
    second = run.handle(RoundCommitted(1), 2.0)[0]
    assert len(second.cohort) == 3
    assert second.round == 2


def test_round_closes_at_its_deadline_with_a_quorum():
    run = machine(min_devices=3, quorum=0.5)
    ready(run, "a", "b", "c")
    run.handle(UpdateArrived("a"), 10.0)
    run.handle(UpdateArrived("c"), 20.0)
    assert run.next_wakeup() == 100.0
    assert run.handle(TimePassed(), 99.9) == []
    effects = run.handle(TimePassed(), 100.0)
    assert effects[0] == CloseRound(1, contributors=("a", "c"), lost=("b",))
    assert [type(effect) for effect in effects[1:]] == [FitnessChanged]
    assert run.next_wakeup() is None


def test_round_closes_at_once_when_the_rest_will_not_come():
    run = machine(min_devices=3, quorum=0.5)
    ready(run, "a", "b", "c")
    run.handle(UpdateArrived("a"), 1.0)
    run.handle(UpdateMissed("b"), 2.0)
    assert run.handle(UpdateArrived("c"), 3.0) == [CloseRound(1, contributors=("a", "c"), lost=("b",))]


def test_round_counts_an_update_that_comes_with_the_deadline():
    run = machine(min_devices=2, quorum=1.0)
    ready(run, "a", "b")
    run.handle(UpdateArrived("a"), 1.0)
    assert run.handle(UpdateArrived("b"), 100.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_round_below_quorum_is_extended_with_a_replacement():
    run = machine(min_devices=2, quorum=1.0)
    ready(run, "a", "b", "c")
    run.handle(UpdateArrived("a"), 1.0)
    effects = run.handle(TimePassed(), 100.0)
    new = place("c", replacement=True)
    assert effects[:2] == [
        ExtendRound(1, added=(new,), contributors=1, quorum=2, weight_capacity=40),
        SendTask(1, "b"),
    ]
    assert run.next_wakeup() == 200.0
    # The replacement does not raise the quorum: two updates of the three places close the round.
    run.handle(UpdateArrived("c"), 150.0)
    assert run.handle(TimePassed(), 200.0)[0] == CloseRound(1, contributors=("a", "c"), lost=("b",))


def test_round_takes_no_more_replacements_than_are_lacking():
    run = machine(min_devices=4, quorum=0.5)
    ready(run, "a", "b", "c", "d", "e", "f", "g")
    run.handle(UpdateArrived("a"), 1.0)
    extended = run.handle(TimePassed(), 100.0)[0]
    assert len(extended.added) == 1


def test_round_does_not_ask_a_device_again_that_is_offline():
    run = machine(min_devices=2, quorum=1.0)
    ready(run, "a", "b")
    run.handle(DeviceGone("b"), 1.0)
    assert run.handle(TimePassed(), 100.0)[:2] == [
        ExtendRound(1, added=(), contributors=0, quorum=2, weight_capacity=40),
        SendTask(1, "a"),
    ]


def test_round_grows_its_capacity_for_a_heavy_replacement():
    run = machine(min_devices=1, quorum=1.0)
    ready(run, "a")
    run.handle(DeviceGone("a"), 1.0)
    run.handle(DeviceReady(place("heavy", weight=1000)), 2.0)
    extended = run.handle(TimePassed(), 100.0)[0]
    assert names(extended.added) == ["heavy"]
    assert extended.weight_capacity == 1010
    assert run.handle(UpdateArrived("heavy"), 110.0) == []
    assert run.handle(TimePassed(), 200.0) == [CloseRound(1, contributors=("heavy",), lost=("a",))]


def test_round_gives_a_device_that_missed_another_chance():
    """A fleet of one device that fails once must not hang for ever."""
    run = machine()
    ready(run, "a")
    # It ran out of memory, and is told to hold a shallower submodel.
    run.handle(DeviceGone("a"), 1.0)
    assert run.handle(UpdateMissed("a"), 1.0) == []
    assert run.member("a", 1) is None
    again = place("a", depth=1)
    assert run.handle(DeviceReady(again), 2.0) == [
        ExtendRound(1, added=(again,), contributors=0, quorum=1, weight_capacity=20)
    ]
    assert run.member("a", 1) == again
    assert run.handle(UpdateArrived("a"), 101.0) == [CloseRound(1, contributors=("a",), lost=())]


def test_round_prefers_fresh_devices_to_those_that_missed():
    run = machine(min_devices=2, quorum=1.0)
    ready(run, "a", "b", "c")
    assert names(run.handle(UpdateMissed("a"), 1.0)[0].added) == ["c"]


def test_device_that_comes_back_gets_its_task_again():
    run = machine(min_devices=2)
    ready(run, "a", "b")
    assert run.handle(DeviceGone("a"), 1.0) == []
    assert run.handle(DeviceReady(place("a")), 2.0) == [SendTask(1, "a")]
    assert run.handle(UpdateArrived("a"), 3.0) == []
    assert run.handle(DeviceReady(place("a")), 4.0) == []


def test_round_waits_for_a_device_whose_agent_was_ended_as_long_as_a_restart_may_take():
    run = machine(min_devices=3, quorum=0.5, rejoin_seconds=20.0)
    ready(run, "a", "b", "c")
    run.handle(DeviceGone("c", ended=True), 1.0)
    run.handle(UpdateArrived("a"), 2.0)
    run.handle(UpdateArrived("b"), 3.0)
    assert run.next_wakeup() == 21.0
    assert run.handle(TimePassed(), 20.9) == []
    assert run.handle(TimePassed(), 21.0) == [CloseRound(1, contributors=("a", "b"), lost=("c",))]


def test_device_whose_agent_is_started_again_in_time_is_awaited():
    run = machine(min_devices=2, quorum=0.5, rejoin_seconds=20.0)
    ready(run, "a", "b")
    run.handle(DeviceGone("b", ended=True), 1.0)
    run.handle(UpdateArrived("a"), 2.0)
    run.handle(DeviceReported("b"), 20.0)
    assert run.next_wakeup() == 100.0
    assert run.handle(TimePassed(), 30.0) == []
    assert run.handle(DeviceReady(place("b")), 40.0) == [SendTask(1, "b")]
    assert run.handle(UpdateArrived("b"), 50.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_round_waits_until_the_deadline_for_a_device_whose_connection_is_lost():
    run = machine(min_devices=2, quorum=0.5, rejoin_seconds=20.0)
    ready(run, "a", "b")
    run.handle(DeviceGone("b"), 1.0)
    run.handle(UpdateArrived("a"), 2.0)
    assert run.next_wakeup() == 100.0


def test_device_whose_agent_was_ended_is_replaced_before_the_deadline():
    run = machine(min_devices=2, devices_per_round=2, quorum=1.0, rejoin_seconds=20.0)
    ready(run, "a", "b", "c")
    chosen = [place.device for place in run.cohort.places]
    (spare,) = {"a", "b", "c"} - set(chosen)
    run.handle(UpdateArrived(chosen[0]), 1.0)
    run.handle(DeviceGone(chosen[1], ended=True), 2.0)
    assert names(run.handle(TimePassed(), 22.0)[0].added) == [spare]
    assert run.next_wakeup() == 122.0
    assert run.handle(TimePassed(), 23.0) == []
    assert run.handle(UpdateArrived(spare), 30.0) == [
        CloseRound(1, contributors=tuple(sorted((chosen[0], spare))), lost=(chosen[1],))
    ]


def test_fleet_of_one_whose_agent_was_ended_goes_on_waiting():
    run = machine(rejoin_seconds=20.0)
    ready(run, "a")
    run.handle(DeviceGone("a", ended=True), 1.0)
    assert run.handle(TimePassed(), 21.0) == []
    assert run.next_wakeup() == 100.0


def test_device_that_comes_back_with_another_depth_loses_its_place():
    run = machine(min_devices=2, quorum=0.5)
    ready(run, "a", "b")
    run.handle(UpdateArrived("b"), 1.0)
    assert run.handle(DeviceReady(place("a", depth=1)), 2.0) == [CloseRound(1, contributors=("b",), lost=("a",))]


def test_device_that_joins_late_waits_for_the_next_round():
    run = machine(min_devices=1)
    ready(run, "a")
    assert run.handle(DeviceReady(place("b")), 1.0) == []
    run.handle(UpdateArrived("a"), 2.0)
    assert names(run.handle(RoundCommitted(1), 3.0)[0].cohort) == ["a", "b"]


def test_round_ignores_updates_that_nobody_asked_for():
    run = machine(min_devices=2, quorum=1.0)
    ready(run, "a", "b")
    for event in (UpdateArrived("x"), UpdateArrived("a"), UpdateArrived("a"), UpdateMissed("a"), UpdateMissed("x")):
        assert run.handle(event, 1.0) == []
    assert run.handle(UpdateArrived("b"), 2.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_round_is_committed_once():
    run = machine(count=3)
    ready(run, "a")
    assert run.handle(RoundCommitted(1), 1.0) == []
    run.handle(UpdateArrived("a"), 2.0)
    assert run.handle(RoundCommitted(2), 3.0) == []
    assert names(run.handle(RoundCommitted(1), 3.0)[0].cohort) == ["a"]
    assert run.handle(RoundCommitted(1), 3.0) == []
    assert run.round == 2


def test_restart_waits_for_the_devices_that_were_there():
    run = machine(now=1000.0, next_round=2, expected=frozenset({"a", "b"}), count=5)
    assert run.handle(DeviceReady(place("a")), 1001.0) == [TooFewDevices(present=1, wanted=2)]
    assert run.next_wakeup() == 1020.0
    assert run.handle(DeviceReady(place("b")), 1002.0) == [OpenRound(2, (place("a"), place("b")), 40)]


def test_restart_goes_on_without_a_device_that_stays_away():
    run = machine(now=1000.0, next_round=2, expected=frozenset({"a", "b"}), count=5)
    ready(run, "a", now=1001.0)
    assert run.handle(TimePassed(), 1019.9) == []
    assert run.handle(TimePassed(), 1020.0) == [OpenRound(2, (place("a"),), 20)]


def test_restart_does_not_wake_for_ever_when_nobody_comes():
    run = machine(now=1000.0, expected=frozenset({"a"}))
    assert run.next_wakeup() == 1020.0
    run.handle(TimePassed(), 1020.0)
    assert run.next_wakeup() is None


def test_resume_takes_up_an_open_round():
    run = machine(now=1000.0, next_round=2, expected=frozenset({"a", "b"}))
    run.resume(OpenRound(2, (place("a"), place("b"), place("c")), 60), frozenset({"a"}), 1000.0, missed=frozenset("c"))
    assert run.next_wakeup() == 1100.0
    assert run.handle(DeviceReady(place("a")), 1001.0) == []
    assert run.handle(DeviceReady(place("c")), 1001.0) == []
    assert run.handle(DeviceReady(place("b")), 1002.0) == [SendTask(2, "b")]
    assert run.handle(UpdateArrived("b"), 1003.0) == [CloseRound(2, contributors=("a", "b"), lost=("c",))]


def test_resume_closes_a_complete_round_with_the_first_tick():
    run = machine(now=1000.0)
    run.resume(OpenRound(1, (place("a"),), 20), frozenset({"a"}), 1000.0)
    assert run.next_wakeup() == -math.inf
    assert run.handle(TimePassed(), 1000.0) == [CloseRound(1, contributors=("a",), lost=())]


def test_resume_keeps_the_quorum_of_an_extended_round():
    run = machine(now=1000.0, quorum=0.5)
    places = (place("a"), place("b"), place("c", replacement=True), place("d", replacement=True))
    run.resume(OpenRound(1, places, 80), frozenset({"d"}), 1000.0)
    assert run.handle(TimePassed(), 1100.0) == [CloseRound(1, contributors=("d",), lost=("a", "b", "c"))]


def test_resume_refuses_another_round():
    with pytest.raises(ValueError, match="round 3 cannot be resumed when round 1 is next"):
        machine().resume(OpenRound(3, (place("a"),), 20), frozenset(), 0.0)


def test_participant_is_known_while_its_update_is_wanted():
    run = machine(min_devices=2)
    assert run.member("a", 1) is None
    ready(run, "a", "b")
    assert run.member("a", 1) == place("a")
    assert run.member("a", 2) is None
    assert run.member("x", 1) is None
    run.handle(UpdateArrived("a"), 1.0)
    assert run.member("a", 1) is None


def test_seconds_left_counts_down_to_the_deadline():
    run = machine()
    assert run.seconds_left(0.0) == 0.0
    ready(run, "a", now=10.0)
    assert run.seconds_left(30.0) == 80.0
    assert run.seconds_left(500.0) == 0.0


@pytest.mark.parametrize(
    ("quorum", "cohort", "needed"),
    [(0.0, 4, 1), (0.5, 3, 2), (1.0, 3, 3), (0.55, 100, 55), (0.07, 100, 7), (0.3, 4, 2)],
)
def test_quorum_is_the_share_rounded_up(quorum: float, cohort: int, needed: int):
    run = machine(min_devices=cohort, quorum=quorum)
    devices = [f"d{n:03}" for n in range(cohort)]
    ready(run, *devices)
    for device in devices[: needed - 1]:
        run.handle(UpdateArrived(device), 1.0)
    extended = run.handle(TimePassed(), 100.0)[0]
    assert isinstance(extended, ExtendRound)
    assert (extended.contributors, extended.quorum) == (needed - 1, needed)
    effects = run.handle(UpdateArrived(devices[needed - 1]), 150.0) + run.handle(TimePassed(), 200.0)
    assert [type(effect) for effect in effects if not isinstance(effect, FitnessChanged)] == [CloseRound]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"devices_per_round": -1}, "devices_per_round must be 0"),
        ({"keep_checkpoints": -1}, "keep_checkpoints must be 0"),
        ({"devices_per_round": 2, "min_devices": 3}, "min_devices .3. is more than devices_per_round .2."),
    ],
)
def test_settings_refuse_what_cannot_be(wrong, words: str):
    with pytest.raises(ValueError, match=words):
        RoundSettings(**wrong)


def test_machine_of_a_finished_run_is_finished():
    run = machine(next_round=3)
    assert run.phase is Phase.FINISHED
    assert run.handle(DeviceReady(place("a")), 0.0) == []


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_a_place_weighs_no_more_than_so_many_times_the_median(mode):
    settings = RoundSettings(mode=mode, min_devices=3, max_sample_ratio=10.0)
    machine = make_round_machine(settings, 1, now=0.0)
    effects = []
    for device, samples in (("a", 100), ("b", 90), ("c", 2**53)):
        effects += machine.handle(DeviceReady(CohortMember(device, 1, 1.0, samples, samples)), 0.0)
    (opened,) = [effect for effect in effects if isinstance(effect, OpenRound)]
    assert {place.device: place.weight for place in opened.cohort} == {"a": 100, "b": 90, "c": 1000}
    assert {place.device: place.samples for place in opened.cohort}["c"] == 2**53
    assert opened.weight_capacity <= 2 * 256 * 1190
