import pytest

from fedlp_edge.core.rounds.fitness import (
    ASIDE_AFTER,
    LONGEST_REST,
    REFUSALS,
    DeviceFault,
    Fitness,
    FitnessTracker,
    with_another_attempt,
)


def after(*faults: DeviceFault, round: int = 1) -> Fitness:
    fitness = Fitness()
    for fault in faults:
        fitness = fitness.after(fault, "why", round)
    return fitness


@pytest.mark.parametrize("fault", [DeviceFault.DATA, DeviceFault.MODEL, DeviceFault.CAPACITY])
def test_lasting_fault_makes_a_device_unfit_at_once(fault: DeviceFault):
    fitness = after(fault)
    assert (fitness.state, fitness.out, fitness.reason) == ("unfit", True, "why")
    assert fitness.is_passed_over(1000)


def test_passing_faults_rest_a_device_for_longer_each_time_then_set_it_aside():
    fitness, rests, states = Fitness(), [], []
    for _ in range(ASIDE_AFTER + 1):
        fitness = fitness.after(DeviceFault.WORKER, "why", 10)
        rests.append(fitness.round - 10)
        states.append(fitness.state)
    assert rests == [1, 2, 4, 8, 16]
    assert states == ["resting", "resting", "resting", "set aside", "set aside"]


def test_device_that_is_set_aside_is_tried_again_now_and_then():
    fitness = after(*[DeviceFault.LOST] * 20, round=100)
    assert fitness.is_passed_over(100 + LONGEST_REST - 1)
    assert not fitness.is_passed_over(100 + LONGEST_REST)


def test_refused_values_are_lasting_when_they_come_again_and_again():
    assert not after(*[DeviceFault.VALUES] * (REFUSALS - 1)).lasting
    assert after(*[DeviceFault.VALUES] * REFUSALS).lasting
    assert not after(DeviceFault.VALUES, DeviceFault.VALUES, DeviceFault.WORKER, DeviceFault.VALUES).lasting


def test_unfit_device_stays_unfit_whatever_else_happens_to_it():
    assert after(DeviceFault.DATA, DeviceFault.LOST).state == "unfit"


def test_pauses_grow_up_to_a_minute():
    assert [after(*[DeviceFault.WORKER] * times).pause_seconds for times in (1, 2, 3, 9)] == [2.0, 4.0, 8.0, 60.0]


def test_fitness_tracker_remembers_and_forgets():
    fitness_tracker = FitnessTracker({}, now=0.0)
    fitness_tracker.failed("a", DeviceFault.WORKER, "why", 3, 10.0)
    assert fitness_tracker.retry_at("a") == 12.0
    assert fitness_tracker["a"].state == "resting"
    assert fitness_tracker.forget("a")
    assert not fitness_tracker.forget("a")
    assert (fitness_tracker["a"], fitness_tracker.retry_at("a")) == (Fitness(), 0.0)


def test_fitness_tracker_pauses_after_a_restart_what_failed_before_it():
    assert FitnessTracker({"a": after(DeviceFault.WORKER, DeviceFault.WORKER)}, now=100.0).retry_at("a") == 104.0


def test_devices_of_a_run_that_nobody_could_go_on_with_get_another_attempt_unless_their_fault_is_lasting():
    aside, unfit = after(*[DeviceFault.WORKER] * 6), after(DeviceFault.DATA)
    again = with_another_attempt({"a": aside, "b": unfit}, {"a", "b"})
    assert again["b"] == unfit
    assert (again["a"].state, again["a"].is_passed_over(1), again["a"].reason) == ("resting", False, "why")
    assert again["a"].after(DeviceFault.WORKER, "why", 1).state == "set aside"


def test_a_device_that_is_set_aside_beside_a_good_one_gets_no_attempt_by_a_restart():
    known = {"a": after(*[DeviceFault.WORKER] * 6)}
    assert with_another_attempt(known, {"a", "good"}) == known
    assert with_another_attempt(known, ()) == known
