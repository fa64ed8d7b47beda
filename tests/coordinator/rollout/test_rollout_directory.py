"""The directory of a roll-out: its journal survives a kill, and one process is at work in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, RolloutStatus
from fedlp_edge.core.rollout.rollout_events import (
    DeviceSettled,
    InstallOrdered,
    JournaledEvent,
    RolloutBegan,
    RolloutPaused,
)
from fedlp_edge.errors import OperatorError, StorageError

PLAN = RolloutPlan(run="deploy-r", fleet="f", release="r", source="/d", config="/f.toml")
EVENTS: list[JournaledEvent] = [
    RolloutBegan((("a",), ("b",))),
    InstallOrdered("a"),
    DeviceSettled("a", "failed", "the disk is full"),
]


def test_plan_status_and_events_come_back(tmp_path: Path) -> None:
    directory = RolloutDirectory(tmp_path)
    assert not directory.exists
    directory.put_plan(PLAN)
    directory.put_status(RolloutStatus(phase="paused"))
    for event in EVENTS:
        directory.append(event)
    assert directory.exists
    assert (directory.plan(), directory.status(), directory.events()) == (PLAN, RolloutStatus(phase="paused"), EVENTS)


def test_line_that_a_kill_has_halved_is_left_out_and_written_over(tmp_path: Path) -> None:
    directory = RolloutDirectory(tmp_path)
    for event in EVENTS[:2]:
        directory.append(event)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    for length in range(len(whole) - 1, whole.find(b"\n") + 1, -1):
        journal.write_bytes(whole[:length])
        assert directory.events() == EVENTS[:1]
    directory.append(EVENTS[2])
    assert directory.events() == [EVENTS[0], EVENTS[2]]


def test_damage_in_the_middle_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b'{"event": "nothing"}\n{}\n')
    with pytest.raises(StorageError, match=r"journal\.jsonl:1: "):
        RolloutDirectory(tmp_path).events()


def test_one_process_is_at_work(tmp_path: Path) -> None:
    one, other = RolloutDirectory(tmp_path), RolloutDirectory(tmp_path)
    assert one.lock()
    assert not other.lock()
    one.unlock()
    assert other.lock()
    other.unlock()


def test_word_is_taken_once(tmp_path: Path) -> None:
    directory = RolloutDirectory(tmp_path)
    assert directory.take_word() is None
    directory.say("pause")
    directory.say("abort")
    assert directory.take_word() == "abort"
    assert directory.take_word() is None


def test_directory_without_a_roll_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="holds no roll-out"):
        RolloutDirectory(tmp_path).plan()


def test_roll_out_that_is_over_begins_again_with_its_first_journal_set_aside(tmp_path: Path) -> None:
    rollout = RolloutDirectory(tmp_path)
    for number in (1, 2):
        plan = RolloutPlan(run=f"deploy-{number}", fleet="f", release="r", source="/d", config="/f.toml")
        rollout.append(RolloutPaused())
        rollout.put_status(RolloutStatus(phase="done"))
        rollout.begin_again(plan)
        assert (rollout.events(), rollout.phase, rollout.plan()) == ([], "running", plan)
    assert sorted(path.name for path in tmp_path.glob("journal*")) == ["journal-1.jsonl", "journal-2.jsonl"]
