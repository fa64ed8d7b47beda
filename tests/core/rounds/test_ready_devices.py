from __future__ import annotations

from fedlp_edge.core.rounds.events import (
    CohortMember,
    DeviceChanged,
    DeviceGone,
    DeviceReady,
    DeviceReported,
    DeviceUnable,
    Effect,
    FitnessChanged,
    NoDeviceFit,
    TimePassed,
    TooFewDevices,
)
from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.rounds.ready_devices import ReadyDevices
from fedlp_edge.core.rounds.settings import RoundSettings


def member(device: str, weight: int = 10) -> CohortMember:
    return CohortMember(device, 1, 1.0, weight, weight)


def devices(*ready: CohortMember, settings: RoundSettings | None = None, expected: str = "") -> ReadyDevices:
    found = ReadyDevices(settings or RoundSettings(), 1, frozenset(expected), 0.0)
    for place in ready:
        found.take(DeviceReady(place), 1, 0.0, [])
    return found


def test_says_once_how_many_devices_are_missing() -> None:
    found = devices(member("a"), settings=RoundSettings(min_devices=2))
    effects: list[Effect] = []

    assert not found.enough(1, effects)
    assert not found.enough(1, effects)
    assert effects == [TooFewDevices(1, 2)]

    found.take(DeviceReady(member("b")), 1, 1.0, effects)
    assert found.enough(1, effects)


def test_tells_devices_that_are_there_and_get_ready_from_those_that_are_missing() -> None:
    found = devices(settings=RoundSettings(min_devices=3))
    effects: list[Effect] = []
    for device in "ab":
        found.take(DeviceReported(device), 1, 0.0, effects)
    assert not found.enough(1, effects)
    found.take(DeviceReady(member("a")), 1, 1.0, effects)
    assert not found.enough(1, effects)
    assert effects == [TooFewDevices(0, 3, preparing=2), TooFewDevices(1, 3, preparing=1)]


def test_waits_after_a_restart_for_those_who_were_there_but_not_for_ever() -> None:
    found = devices(member("a"), settings=RoundSettings(rejoin_seconds=20.0), expected="ab")

    assert found.next_wakeup() == 20.0
    assert not found.enough(1, [])
    found.take(TimePassed(), 1, 20.0, [])
    assert found.enough(1, [])
    assert found.next_wakeup() is None


def test_device_that_is_gone_is_no_candidate() -> None:
    found = devices(member("a"), member("b"))

    found.take(DeviceGone("a"), 1, 1.0, [])

    assert found.candidates(1) == {"b"}


def test_gives_the_run_up_if_nobody_can_take_part_until_somebody_changes() -> None:
    found = devices(member("a"), settings=RoundSettings(rejoin_seconds=20.0))
    effects: list[Effect] = []
    found.take(DeviceUnable("a", DeviceFault.DATA, "no labels"), 1, 1.0, effects)
    assert effects == [FitnessChanged("a", Fitness(1, 0, True, 2, "no labels"))]

    effects.clear()
    assert not found.enough(1, effects)
    assert effects == [TooFewDevices(0, 1, unable=1), NoDeviceFit({"a": "no labels"}, 20.0)]
    assert found.next_wakeup() == 21.0

    found.take(TimePassed(), 1, 21.0, effects)
    effects.clear()
    assert not found.enough(1, effects)
    assert effects == [NoDeviceFit({"a": "no labels"}, 0.0)]

    effects.clear()
    found.take(DeviceChanged("a"), 1, 22.0, effects)
    assert effects == [FitnessChanged("a", Fitness())]


def test_device_that_rests_is_taken_only_if_there_is_no_other() -> None:
    found = devices(member("a"), member("b"))
    found.failed("a", DeviceFault.WORKER, "it died", 1, [])
    assert found.candidates(1) == {"b"}

    found.take(DeviceGone("b"), 1, 1.0, [])
    assert found.candidates(1) == set()
    assert found.next_wakeup() == 2.0
    found.take(TimePassed(), 1, 2.0, [])
    assert found.candidates(1) == {"a"}


def test_weight_is_bounded_by_what_others_have() -> None:
    found = devices(member("a"), member("b"), member("c", 1000), settings=RoundSettings(max_sample_ratio=2.0))

    assert found.place("a").weight == 10
    assert (found.place("c").weight, found.place("c").samples) == (20, 1000)


def test_draws_the_same_cohort_in_every_life() -> None:
    first, second = (devices(*map(member, order)) for order in ("abcdef", "fedcba"))

    assert sorted(first.draw("abcdef", 0, 1)) == list("abcdef")
    drawn = [first.draw("abcdef", 2, round) for round in range(1, 9)]
    assert drawn == [second.draw("fedcba", 2, round) for round in range(1, 9)]
    assert {len(set(cohort)) for cohort in drawn} == {2}
    assert len(set(drawn)) > 1


def test_device_that_falls_silent_too_often_gets_no_more_tasks() -> None:
    found = devices(member("a"), member("b"))
    for _ in range(3):
        found.failed("a", DeviceFault.LOST, "nothing by the deadline", 1, [])
    effects: list[Effect] = []

    assert found.fell_silent(["b", "a"], 1, effects) == {"a"}
    assert effects == [
        FitnessChanged("b", Fitness(1, 0, False, 2, "nothing by the deadline")),
        FitnessChanged("a", Fitness(4, 0, False, 9, "nothing by the deadline")),
    ]
