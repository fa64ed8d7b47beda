import math

import pytest

from fedlp_edge.core.rounds.events import (
    AddPlaces,
    CloseRound,
    CohortMember,
    DeviceGone,
    DeviceReady,
    ExtendRound,
    FinishRun,
    ModelOutdated,
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


def place(device: str, round: int = 0, *, weight: int = 10, depth: int = 2) -> CohortMember:
    return CohortMember(device, depth, 1.0, weight, weight, round=round)


def machine(now: float = 0.0, next_round: int = 1, expected: frozenset[str] = frozenset(), **rounds) -> RoundMachine:
    chosen = {"count": 5, "buffer_size": 2, "deadline_seconds": 100.0, "rejoin_seconds": 20.0, **rounds}
    return make_round_machine(
        RoundSettings(mode="buffered", **chosen), seed=1, now=now, next_round=next_round, expected=expected
    )


def ready(run: RoundMachine, *devices: str, now: float = 0.0):
    return [effect for device in devices for effect in run.handle(DeviceReady(place(device)), now)]


def started(devices: str, **rounds) -> RoundMachine:
    """A run whose round 1 is open with these devices."""
    run = machine(min_devices=len(devices), **rounds)
    ready(run, *devices)
    assert run.phase is Phase.COLLECTING
    return run


def test_version_is_made_of_as_many_updates_as_the_buffer_holds():
    run = machine(min_devices=3)
    assert ready(run, "a", "b") == [TooFewDevices(1, 3), TooFewDevices(2, 3)]
    # Three devices of weight 10 with a factor of 256, twice.
    assert ready(run, "c") == [OpenRound(1, (place("a", 1), place("b", 1), place("c", 1)), 2 * 3 * 10 * 256)]
    assert run.handle(UpdateArrived("b"), 1.0) == []
    assert run.handle(UpdateArrived("a"), 2.0) == [CloseRound(1, contributors=("a", "b"), lost=())]
    assert run.phase is Phase.CLOSING
    # The slow one keeps its task of round 1; the others start from the new version.
    assert run.handle(RoundCommitted(1), 3.0) == [OpenRound(2, (place("a", 2), place("b", 2), place("c", 1)), 15360)]
    assert run.member("c", 1) == place("c", 1)
    assert run.member("a", 1) is None


def test_device_that_delivered_late_gets_a_task_of_the_open_round_at_once():
    run = started("abc")
    run.handle(UpdateArrived("a"), 1.0)
    run.handle(UpdateArrived("b"), 1.0)
    run.handle(RoundCommitted(1), 2.0)
    assert run.counts_in("c") == 2
    assert run.handle(UpdateArrived("c"), 3.0) == [AddPlaces(2, (place("c", 2),), 15360)]
    assert run.handle(UpdateArrived("a"), 4.0) == [CloseRound(2, contributors=("a", "c"), lost=())]


def test_device_waits_for_the_next_version_when_it_has_done_the_latest():
    run = started("abc")
    assert run.handle(UpdateArrived("a"), 1.0) == []
    assert run.member("a", 1) is None
    assert run.handle(DeviceReady(place("a")), 2.0) == []


def test_round_counts_a_device_once_and_keeps_its_second_update_for_the_next():
    run = started("abcd", buffer_size=3)
    for device in "abd":
        run.handle(UpdateArrived(device), 1.0)
    run.handle(RoundCommitted(1), 1.0)
    run.handle(UpdateArrived("c"), 2.0)
    assert run.counts_in("c") == 3
    assert run.handle(UpdateArrived("c"), 3.0) == []
    assert run.handle(UpdateArrived("a"), 4.0) == []
    assert run.handle(UpdateArrived("b"), 5.0) == [CloseRound(2, contributors=("a", "b", "c"), lost=())]
    # What came early of c is of round 2, so c gets a task of round 3 beside it.
    opened = run.handle(RoundCommitted(2), 6.0)[0]
    places = (place("a", 3), place("b", 3), place("c", 2), place("c", 3), place("d", 2))
    assert opened == OpenRound(3, places, 2 * 5 * 10 * 256)


def test_update_that_comes_while_a_round_closes_counts_in_the_next():
    run = started("abc")
    run.handle(UpdateArrived("a"), 1.0)
    run.handle(UpdateArrived("b"), 1.0)
    assert run.counts_in("c") == 2
    assert run.handle(UpdateArrived("c"), 1.5) == []
    run.handle(RoundCommitted(1), 2.0)
    assert run.handle(UpdateArrived("b"), 3.0) == [CloseRound(2, contributors=("b", "c"), lost=())]


def test_round_that_opens_full_closes_before_it_gives_tasks():
    run = started("abcd")
    run.handle(UpdateArrived("a"), 1.0)
    run.handle(UpdateArrived("b"), 1.0)
    run.handle(UpdateArrived("c"), 1.5)
    run.handle(UpdateArrived("d"), 1.5)
    assert run.handle(RoundCommitted(1), 2.0) == [
        OpenRound(2, (place("c", 1), place("d", 1)), 10240),
        CloseRound(2, contributors=("c", "d"), lost=()),
    ]


def test_round_closes_with_a_part_of_the_buffer_when_nobody_is_left():
    run = started("ab", buffer_size=10)
    run.handle(UpdateArrived("a"), 1.0)
    assert run.handle(UpdateArrived("b"), 2.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_round_closes_at_its_deadline_with_a_quorum_of_the_buffer():
    run = started("abcde", buffer_size=4)
    run.handle(UpdateArrived("a"), 10.0)
    run.handle(UpdateArrived("b"), 10.0)
    assert run.next_wakeup() == 100.0
    assert run.handle(TimePassed(), 99.0) == []
    assert run.handle(TimePassed(), 100.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_round_below_its_quorum_waits_once_more_and_asks_again():
    run = started("abc", buffer_size=2, quorum=1.0)
    run.handle(UpdateMissed("a"), 1.0)
    run.handle(UpdateArrived("b"), 1.0)
    assert run.handle(TimePassed(), 100.0)[:2] == [
        ExtendRound(1, added=(place("a", 1),), contributors=1, quorum=2, weight_capacity=15360),
        SendTask(1, "c"),
    ]
    assert run.next_wakeup() == 200.0
    assert run.handle(UpdateArrived("a"), 101.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_device_that_missed_gets_no_task_before_the_next_round():
    run = started("abc")
    assert run.handle(UpdateMissed("a"), 1.0) == []
    assert run.member("a", 1) is None
    run.handle(UpdateArrived("b"), 1.0)
    assert run.handle(UpdateArrived("c"), 2.0) == [CloseRound(1, contributors=("b", "c"), lost=("a",))]
    assert run.handle(RoundCommitted(1), 3.0)[0].cohort[0] == place("a", 2)


def test_task_that_is_overdue_gives_way_to_a_newer_one():
    run = started("abc")
    for round in (1, 2):
        run.handle(UpdateArrived("a"), 10.0)
        run.handle(UpdateArrived("b"), 10.0)
        # The task of c was given at 0.
        effects = run.handle(RoundCommitted(round), 60.0 * round)
    assert effects == [OpenRound(3, (place("a", 3), place("b", 3), place("c", 3)), 15360)]
    assert run.member("c", 1) is None


def test_task_of_an_open_round_gives_way_when_its_time_is_over():
    run = started("abc")
    run.handle(UpdateArrived("a"), 60.0)
    run.handle(UpdateArrived("b"), 60.0)
    run.handle(RoundCommitted(1), 60.0)
    assert run.next_wakeup() == 100.0
    assert run.handle(TimePassed(), 100.0) == [AddPlaces(2, (place("c", 2),), 15360)]
    assert run.next_wakeup() == 160.0


def test_device_that_is_offline_keeps_its_task_until_it_is_too_stale():
    run = machine(min_devices=2, max_staleness=1)
    ready(run, "a", "b", "c")
    run.handle(DeviceGone("c"), 0.5)
    for round in (1, 2):
        run.handle(UpdateArrived("a"), 10.0 * round)
        run.handle(UpdateArrived("b"), 10.0 * round)
        run.handle(RoundCommitted(round), 10.0 * round)
        assert (run.member("c", 1) is not None) == (round == 1)
    run.handle(UpdateArrived("a"), 30.0)
    assert run.handle(UpdateArrived("b"), 30.0) == [CloseRound(3, contributors=("a", "b"), lost=("c",))]


def test_version_waits_for_a_device_whose_agent_was_ended_as_long_as_a_restart_may_take():
    run = machine(min_devices=3, buffer_size=3, rejoin_seconds=20.0)
    ready(run, "a", "b", "c")
    run.handle(DeviceGone("c", ended=True), 1.0)
    run.handle(UpdateArrived("a"), 2.0)
    assert run.handle(UpdateArrived("b"), 3.0) == []
    assert run.next_wakeup() == 21.0
    assert run.handle(TimePassed(), 21.0) == [CloseRound(1, contributors=("a", "b"), lost=())]
    assert run.member("c", 1) == place("c", 1)  # which may still deliver


def test_device_that_comes_back_goes_on_with_its_task():
    run = started("abc")
    run.handle(DeviceGone("c"), 1.0)
    assert run.handle(DeviceReady(place("c")), 2.0) == [SendTask(1, "c")]
    run.handle(UpdateArrived("a"), 3.0)
    run.handle(UpdateArrived("b"), 3.0)
    run.handle(RoundCommitted(1), 4.0)
    run.handle(DeviceGone("c"), 5.0)
    # Its model is no longer served, but it may have it.
    assert run.handle(DeviceReady(place("c")), 6.0) == []
    assert run.member("c", 1) == place("c", 1)
    assert run.handle(ModelOutdated("c"), 7.0) == [AddPlaces(2, (place("c", 2),), 15360)]
    assert run.handle(ModelOutdated("c"), 8.0) == []


def test_device_that_comes_back_with_another_depth_gets_a_task_of_it():
    run = started("abc")
    assert run.handle(DeviceReady(place("c", depth=1)), 1.0) == [AddPlaces(1, (place("c", 1, depth=1),), 15360)]


def test_device_that_joins_gets_a_task_of_the_open_round():
    run = started("ab", buffer_size=3)
    heavy = CohortMember("c", 2, 1.0, 200, 200)
    # 220 samples and a factor of 256 are more than the capacity of 2 * 20 * 256 holds.
    added = CohortMember("c", 2, 1.0, 200, 200, round=1)
    assert run.handle(DeviceReady(heavy), 1.0) == [AddPlaces(1, (added,), 220 * 256)]


def test_only_so_many_work_at_once_as_the_settings_say():
    run = machine(min_devices=3, devices_per_round=3)
    ready(run, "a", "b", "c")
    assert ready(run, "d") == []
    (added,) = run.handle(DeviceGone("b"), 1.0)
    assert added == AddPlaces(1, (place("d", 1),), 15360)
    # b is back and keeps its task, but nobody else gets one.
    assert run.handle(DeviceReady(place("b")), 2.0) == [SendTask(1, "b")]
    assert ready(run, "e") == []


def test_run_ends_after_its_last_version():
    run = started("ab", count=1)
    run.handle(UpdateArrived("a"), 1.0)
    run.handle(UpdateArrived("b"), 1.0)
    assert run.handle(RoundCommitted(1), 2.0) == [FinishRun()]
    assert run.handle(DeviceReady(place("c")), 3.0) == []
    assert run.member("a", 1) is None


def test_resume_takes_up_what_arrived_and_what_is_awaited():
    run = machine(now=1000.0, next_round=3, expected=frozenset("abc"), buffer_size=3)
    places = (place("a", 1), place("a", 3), place("b", 2), place("c", 3), place("d", 3))
    run.resume(OpenRound(3, places, 5 * 2560), frozenset("ab"), 1000.0, missed=frozenset("d"))
    assert [run.member(d, n) is not None for d, n in (("a", 1), ("a", 3), ("b", 2), ("c", 3), ("d", 3))] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert run.handle(DeviceReady(place("c")), 1001.0) == [SendTask(3, "c")]
    assert run.handle(DeviceReady(place("b")), 1001.0) == [AddPlaces(3, (place("b", 3),), 12800)]
    assert run.handle(DeviceReady(place("d")), 1001.0) == []
    assert run.handle(UpdateArrived("c"), 1002.0) == [CloseRound(3, contributors=("a", "b", "c"), lost=("d",))]


def test_resume_knows_updates_of_the_next_round():
    run = machine(now=1000.0, next_round=2, buffer_size=2)
    places = (place("a", 1), place("a", 2), place("b", 2))
    run.resume(OpenRound(2, places, 5 * 2560), frozenset("a"), 1000.0, early=frozenset("a"))
    assert run.next_wakeup() == 1100.0
    assert run.counts_in("b") == 2
    assert run.handle(UpdateArrived("b"), 1001.0) == [CloseRound(2, contributors=("a", "b"), lost=())]
    ready(run, "a", "b", now=1002.0)
    assert run.handle(RoundCommitted(2), 1003.0) == [
        OpenRound(3, (place("a", 2), place("a", 3), place("b", 3)), 2 * 3 * 2560)
    ]


def test_resume_closes_a_full_round_with_the_first_tick():
    run = machine(now=1000.0)
    run.resume(OpenRound(1, (place("a", 1), place("b", 1), place("c", 1)), 5120), frozenset("ab"), 1000.0)
    assert run.next_wakeup() == -math.inf
    assert run.handle(TimePassed(), 1000.0) == [CloseRound(1, contributors=("a", "b"), lost=())]


def test_resume_takes_up_tasks_between_two_rounds():
    run = machine(now=1000.0, next_round=2, min_devices=2)
    places = (place("a", 1), place("b", 1), place("c", 1))
    run.resume(OpenRound(1, places, 15360), frozenset("a"), 1000.0, early=frozenset("b"))
    assert run.phase is Phase.WAITING
    assert ready(run, "a", "c", now=1001.0)[1:] == [OpenRound(2, (place("a", 2), place("b", 1), place("c", 1)), 15360)]
    assert run.handle(UpdateArrived("c"), 1002.0) == [CloseRound(2, contributors=("b", "c"), lost=())]


def test_resume_refuses_another_round():
    with pytest.raises(ValueError, match="round 3 cannot be resumed when round 1 is next"):
        machine().resume(OpenRound(3, (place("a", 3),), 20), frozenset(), 0.0)
