from __future__ import annotations

import msgspec

from coordinator.rounds.run_history import RunHistory
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.reporting.summary import DeviceOutcome, DeviceRound, RoundSummary
from tests.coordinator.fleets import tiny_blueprint


def fit(device: str) -> Fitness:
    del device
    return Fitness()


def test_begins_before_the_first_round() -> None:
    history = RunHistory(tiny_blueprint(), {})
    assert (history.last, history.committed, history.full_depth_trained) == (None, 0, False)
    assert history.outcomes(fit) == ()


def test_judges_the_depths_that_devices_train_and_the_full_model() -> None:
    history = RunHistory(tiny_blueprint(), {})
    assert history.useful_depths == (2,)
    history.note_cohort([CohortMember("a", 1, 1.0, 10, 10)])
    assert history.useful_depths == (1, 2)
    assert not history.full_depth_trained


def test_judges_the_full_model_alone_where_heads_stay_on_devices() -> None:
    history = RunHistory(msgspec.structs.replace(tiny_blueprint(), head_mode="personal"), {})
    history.note_cohort([CohortMember("a", 1, 1.0, 10, 10)])
    assert history.useful_depths == (2,)


def test_goes_on_from_the_rounds_of_earlier_lives() -> None:
    rows = [
        msgspec.json.encode(RoundSummary(round=number, seconds=1.0, accuracy={}, devices=(), coverage={}))
        for number in (1, 2)
    ]
    history = RunHistory(tiny_blueprint(), {"a": "pi"})
    history.replay(rows)
    assert history.committed == 2
    assert [(outcome.id, outcome.profile, outcome.contributed) for outcome in history.outcomes(fit)] == [("a", "pi", 0)]


def test_counts_for_each_device_the_rounds_that_it_contributed_to_and_failed() -> None:
    history = RunHistory(tiny_blueprint(), {"d": "nano"})
    for number, (status, reason) in enumerate((("contributed", ""), ("lost", ""), ("failed", "out of memory"))):
        devices = (
            DeviceRound(id="a", profile="pi", depth=2, lpr=1.0, status="contributed"),
            DeviceRound(id="b", profile="pi", depth=1, lpr=1.0, status=status, reason=reason),  # type: ignore[arg-type]
            DeviceRound(id="c", profile="pi", depth=1, lpr=1.0, status="lost"),
        )
        history.add(RoundSummary(round=number + 1, seconds=1.0, accuracy={}, devices=devices, coverage={}))
    assert history.outcomes(fit) == (
        DeviceOutcome(id="a", profile="pi", contributed=3),
        DeviceOutcome(id="b", profile="pi", contributed=1, failed=2, reason="out of memory"),
        DeviceOutcome(id="c", profile="pi", failed=3, reason="nothing by the deadline"),
        DeviceOutcome(id="d", profile="nano"),
    )
    assert (history.useful_depths, history.full_depth_trained) == ((1, 2), True)
    outcomes = history.outcomes(lambda device: Fitness(failures=2 * (device == "b"), round=9))
    assert [outcome.failed_last for outcome in outcomes] == [0, 2, 0, 0]
    assert [outcome.is_out for outcome in outcomes] == [False, True, True, False]


def test_the_thresholds_of_a_model_are_those_that_devices_found_before_they_trained_on() -> None:
    history = RunHistory(tiny_blueprint(), {})
    assert history.thresholds(1) == {}
    for number in (1, 2, 3):
        found = {1: float(number)} if number > 1 else {}
        history.add(RoundSummary(round=number, seconds=1.0, accuracy={}, devices=(), coverage={}, thresholds=found))
    assert history.thresholds(1) == {1: 2.0}
    assert history.thresholds(3) == history.thresholds(2) == {1: 3.0}
    # Measured before [export] answer changed, these are of scores that the files do not give.
    mean = RoundSummary(round=4, seconds=1.0, accuracy={}, devices=(), coverage={}, thresholds={1: 9.0}, answer="mean")
    history.add(mean)
    assert history.thresholds(3) == {1: 3.0}


def test_says_which_update_of_a_device_is_the_last_in_the_model() -> None:
    history = RunHistory(tiny_blueprint(), {})
    for number, status in ((1, "contributed"), (2, "lost"), (3, "rejected")):
        entry = DeviceRound(id="a", profile="", depth=1, lpr=1.0, status=status)  # type: ignore[arg-type]
        history.add(RoundSummary(round=number, seconds=1.0, accuracy={}, devices=(entry,), coverage={}))
    assert (history.last_counted("a"), history.last_counted("b")) == (1, 0)
