"""Every message lost, doubled or late; every connection cut, and the broker killed, at any time (see ``virtual``).

A broker's acknowledgement says nothing of the reader: a full queue drops what was acknowledged. So each message that
anybody sends must be one that can get lost.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from fedlp_edge.errors import DeviceError
from fedlp_edge.reporting.events import AnyEvent, RoundFailed, RoundStarted, UpdateAccepted
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.in_memory import InjectedFault
from tests.fleets.test_faults_killed import DEVICES, ROUNDS, differences, undisturbed
from tests.fleets.virtual import VirtualFleet

Disturb = Callable[[VirtualFleet], None]


def run_disturbed(directory: Path, expected: Summary, disturb: Disturb) -> tuple[VirtualFleet, list[str]]:
    fleet = VirtualFleet(directory, devices=DEVICES, rounds=ROUNDS)
    disturb(fleet)
    fleet.start_all()
    summary = fleet.finish()
    return fleet, differences(fleet, summary, expected)


def nth(number: int, action: Literal["drop", "duplicate", "delay"]) -> Disturb:
    """Does something to the n-th message that the broker hands to anybody."""
    count = itertools.count(1)
    return lambda fleet: fleet.world.hub.faults.append(InjectedFault(lambda *_: next(count) == number, action))


def messages_of(directory: Path) -> tuple[Summary, int]:
    """The undisturbed run and how many messages are handed over in it."""
    count = itertools.count()
    fleet = VirtualFleet(directory, devices=DEVICES, rounds=ROUNDS)
    fleet.world.hub.faults.append(InjectedFault(lambda *_: next(count) < 0, "drop"))
    fleet.start_all()
    return fleet.finish(), next(count)


@pytest.mark.parametrize("action", ["drop", "duplicate", "delay"])
def test_any_message_may_be_lost_doubled_or_late(tmp_path: Path, action: Literal["drop", "duplicate", "delay"]) -> None:
    expected, messages = messages_of(tmp_path / "undisturbed")
    complaints: list[str] = []
    every = 1 if action == "drop" else 2
    for number in range(1, messages + 1, every):
        fleet, found = run_disturbed(tmp_path / f"{number}", expected, nth(number, action))
        complaints += [f"message {number}: {it}" for it in found]
        if fleet.trainings != DEVICES * ROUNDS:
            complaints.append(f"message {number}: {fleet.trainings} trainings")
        if fleet.world.now > 30:
            complaints.append(f"message {number}: {fleet.world.now:.0f} s")

    assert complaints == []
    assert messages >= 90


@pytest.mark.parametrize("victim", ["coordinator", "dev-0", "dev-1", "broker"])
def test_connections_may_be_lost_at_any_time(tmp_path: Path, victim: str) -> None:
    first, expected = undisturbed(tmp_path / "undisturbed")
    complaints = []
    for turn in range(2, first.world.turns, 9):

        def disturb(fleet: VirtualFleet, turn: int = turn) -> None:
            world = fleet.world
            world.at_turn[turn] = world.restart_broker if victim == "broker" else lambda: world.cut(victim)

        fleet, found = run_disturbed(tmp_path / f"{turn}", expected, disturb)
        complaints += [f"at turn {turn}: {it}" for it in found]
        if fleet.trainings != DEVICES * ROUNDS:
            complaints.append(f"at turn {turn}: {fleet.trainings} trainings")

    assert complaints == []


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
@pytest.mark.parametrize("reached", [RoundStarted, UpdateAccepted])
def test_broker_may_be_away_for_many_deadlines(tmp_path: Path, mode: str, reached: type[AnyEvent]) -> None:
    fleet = VirtualFleet(tmp_path, devices=DEVICES, rounds=ROUNDS, mode=mode, deadline_seconds=30.0)
    went: list[AnyEvent] = []

    def happened(event: AnyEvent) -> None:
        if isinstance(event, reached) and not went:
            went.append(event)
            fleet.world.restart_broker(900.0)

    fleet.on_event = happened
    fleet.start_all()
    summary = fleet.finish()
    assert fleet.world.now > 900.0
    assert [event for event in fleet.events if isinstance(event, RoundFailed)] == []
    assert [[device.status for device in done.devices] for done in summary.rounds] == [["contributed"] * 2] * ROUNDS
    assert summary.shortcomings == ()


def test_no_clock_decides_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected = undisturbed(tmp_path / "undisturbed")
    jumps = itertools.cycle([-3e8, 0.0, 4e8, 1e9])
    really = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: really() + next(jumps))
        fleet = VirtualFleet(
            tmp_path / "skewed",
            devices=DEVICES,
            rounds=ROUNDS,
            skew={"coordinator": 1e6, "dev-0": -7e5, "dev-1": 3e7},
        )
        fleet.start_all()
        summary = fleet.finish()

    assert differences(fleet, summary, expected) == []
    assert fleet.world.now < 10


def test_second_agent_with_the_same_identity_stops_and_changes_nothing(tmp_path: Path) -> None:
    _, expected = undisturbed(tmp_path / "undisturbed")
    for turn in range(10, 250, 20):
        fleet = VirtualFleet(tmp_path / f"{turn}", devices=DEVICES, rounds=ROUNDS)
        fleet.world.at_turn[turn] = lambda fleet=fleet: fleet.start("dev-1.2")  # type: ignore[misc]
        fleet.start_all()
        summary = fleet.finish()

        assert differences(fleet, summary, expected) == []
        twin = fleet.ended("dev-1.2")
        assert twin is None or (isinstance(twin, DeviceError) and "already connected" in str(twin))
