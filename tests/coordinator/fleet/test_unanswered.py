"""Devices that never say that they hold what they are told to hold are named, once."""

from __future__ import annotations

import pytest

from coordinator.fleet.unanswered import UnansweredAssignments
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.wire.messages import Assignment
from fedlp_edge.wire.topics import Topics

SECONDS = 120.0


def assignment(device: str, depth: int = 1) -> Assignment:
    model = ModelSettings(name="small-cnn", input=(1, 8, 8), classes=10)
    return Assignment(run="run", device=device, model=model, blueprint_digest="0" * 64, depth=depth)


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split()[0] for record in caplog.records]


def test_names_a_silent_device_once_with_the_topics_that_may_be_forbidden(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = UnansweredAssignments(Topics("fleet"))
    unanswered.told("session", assignment("a"), 0.0)
    unanswered.tick(SECONDS - 1)
    assert named(caplog) == []
    unanswered.tick(SECONDS)
    unanswered.tick(2 * SECONDS)
    assert named(caplog) == ["a"]
    assert "fedlp/fleet/down/a" in caplog.text
    assert "fedlp/fleet/up/a" in caplog.text


def test_device_of_which_the_broker_has_kept_a_status_and_no_more_is_told_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unanswered = UnansweredAssignments(Topics("fleet"))
    unanswered.told("session", assignment("a"), 0.0)
    unanswered.tick(SECONDS, {"a"})
    assert caplog.records[0].getMessage() == (
        "the broker has kept a status of a, of which nothing else was heard in 120 s: it is off, and the broker missed "
        "its end; removing the retained message on fedlp/fleet/device/a makes that known"
    )


def test_does_not_name_a_device_that_has_answered_or_gone(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = UnansweredAssignments(Topics("fleet"))
    unanswered.told("session", assignment("a"), 0.0)
    unanswered.told("session", assignment("b"), 0.0)
    unanswered.answered("a")
    unanswered.tick(SECONDS)
    assert named(caplog) == ["b"]


def test_the_same_words_again_give_no_more_time_and_other_words_do(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = UnansweredAssignments(Topics("fleet"))
    unanswered.told("session", assignment("a"), 0.0)
    unanswered.told("session", assignment("b"), 0.0)
    unanswered.told("session", assignment("a"), SECONDS - 1)
    unanswered.told("session", assignment("b", depth=2), SECONDS - 1)
    unanswered.tick(SECONDS)
    assert named(caplog) == ["a"]


def test_an_agent_that_was_started_again_is_named_again(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = UnansweredAssignments(Topics("fleet"))
    unanswered.told("first", assignment("a"), 0.0)
    unanswered.tick(SECONDS)
    unanswered.told("second", assignment("a"), SECONDS)
    unanswered.tick(2 * SECONDS)
    assert named(caplog) == ["a", "a"]
