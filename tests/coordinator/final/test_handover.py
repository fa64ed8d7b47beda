from __future__ import annotations

from coordinator.final.handover import Handover
from coordinator.limits import LIMITS


def test_gives_up_a_device_that_never_begins_to_fetch() -> None:
    handover = Handover()
    handover.expect("pi", 100.0)
    assert handover.given_up(100.0 + LIMITS.fetch_seconds - 0.1) == []
    assert handover.given_up(100.0 + LIMITS.fetch_seconds) == ["pi"]
    assert handover.done


def test_waits_as_long_as_more_comes() -> None:
    handover = Handover()
    handover.expect("pi", 0.0)
    for now in range(20, 2000, 20):
        handover.heard("pi", float(now))
        assert not handover.given_up(now + 19.0)
    assert handover.ended("pi")
    assert handover.done


def test_asking_for_the_same_again_is_no_progress() -> None:
    handover = Handover()
    handover.expect("pi", 0.0)
    for now in range(0, 30, 5):
        handover.asked("pi", "onnx-1", 40, float(now))
    assert handover.given_up(LIMITS.fetch_seconds) == ["pi"]


def test_asking_for_less_is_progress() -> None:
    handover = Handover()
    handover.expect("pi", 0.0)
    handover.asked("pi", "onnx-1", 40, 1.0)
    handover.asked("pi", "onnx-1", 20, 25.0)
    assert handover.given_up(50.0) == []


def test_is_more_patient_where_a_chunk_takes_long() -> None:
    handover = Handover()
    handover.expect("modem", 0.0, chunk_seconds=60.0)
    assert handover.given_up(239.0) == []
    handover.heard("modem", 239.0)
    assert handover.given_up(239.0 + LIMITS.most_fetch_seconds) == ["modem"]


def test_nobody_is_waited_for_who_was_not_told() -> None:
    handover = Handover()
    handover.heard("stranger", 0.0)
    assert not handover.ended("stranger")
    assert handover.done


def test_waits_for_those_that_are_away_until_the_time_has_come() -> None:
    handover = Handover()
    handover.await_return(["pi", "nano"], until=20.0)
    handover.noticed("pi", 10.0)  # it builds its model now
    assert handover.given_up(19.0) == []
    assert handover.given_up(20.0) == ["nano"]
    assert not handover.done
    handover.expect("pi", 70.0)
    assert handover.ended("pi")
    assert handover.done


def test_time_without_a_broker_does_not_count() -> None:
    handover = Handover()
    handover.expect("pi", 0.0)
    handover.reconnected(LIMITS.fetch_seconds - 1)
    assert handover.given_up(LIMITS.fetch_seconds) == []
    assert handover.given_up(2 * LIMITS.fetch_seconds - 1) == ["pi"]
