"""kill -9 before every single step of the coordinator and of a device, in virtual time (see ``virtual``).

Every run must end with the model of the run in which nobody was killed, bit for bit, and with every device's update
counted once.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.reporting.events import AnyEvent, RoundStarted
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.in_memory import InjectedFault
from tests.fleets.virtual import VirtualFleet

DEVICES, ROUNDS = 2, 2


def differences(fleet: VirtualFleet, summary: Summary, expected: Summary) -> list[str]:
    """What is not as in the run without faults; times and bytes may be."""
    found = []
    assert summary.final is not None
    assert expected.final is not None
    if summary.final != expected.final:
        found.append("another model")
    if [entry.coverage for entry in summary.rounds] != [entry.coverage for entry in expected.rounds]:
        found.append(f"another ledger: {[entry.coverage for entry in summary.rounds]}")
    if any(device.status != "contributed" for entry in summary.rounds for device in entry.devices):
        found.append("a lost update")
    if [model.file for model in summary.onnx] != [model.file for model in expected.onnx]:
        found.append("other ONNX files")
    if list((fleet.run / "spool").iterdir()):
        found.append("bytes left in the spool")
    return found


def undisturbed(directory: Path, **settings: object) -> tuple[VirtualFleet, Summary]:
    fleet = VirtualFleet(directory, devices=DEVICES, rounds=ROUNDS, **settings)  # type: ignore[arg-type]
    fleet.start_all()
    return fleet, fleet.finish()


def kill_before_every_step(directory: Path, victim: str, head_mode: HeadMode) -> tuple[list[str], list[VirtualFleet]]:
    """Complaints by step, and the fleets."""
    first, expected = undisturbed(directory / "undisturbed", head_mode=head_mode)
    complaints, fleets = [], []
    for number, step in enumerate(first.steps(victim), start=1):
        fleet = VirtualFleet(directory / f"{number}", devices=DEVICES, rounds=ROUNDS, head_mode=head_mode)
        fleet.start_all({victim: number})
        summary = fleet.finish()
        complaints += [f"killed before step {number}, {step}: {it}" for it in differences(fleet, summary, expected)]
        fleets.append(fleet)
    return complaints, fleets


def test_coordinator_may_be_killed_before_any_step(tmp_path: Path) -> None:
    complaints, fleets = kill_before_every_step(tmp_path, "coordinator", "shared")

    assert complaints == []
    assert len(fleets) > 100
    # Whatever was trained when it died is delivered to its next life: nobody trains a round twice.
    assert {fleet.trainings for fleet in fleets} == {DEVICES * ROUNDS}
    assert max(fleet.world.now for fleet in fleets) < 30


def test_device_may_be_killed_before_any_step(tmp_path: Path) -> None:
    complaints, fleets = kill_before_every_step(tmp_path, "dev-1", "shared")

    assert complaints == []
    assert len(fleets) > 80
    assert {fleet.trainings for fleet in fleets} <= {DEVICES * ROUNDS, DEVICES * ROUNDS + 1}


def test_device_with_a_head_of_its_own_may_be_killed_before_any_step(tmp_path: Path) -> None:
    complaints, fleets = kill_before_every_step(tmp_path, "dev-0", "personal")

    assert complaints == []
    assert len(fleets) > 30


@pytest.fixture(scope="module")
def nobody_killed(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), head_mode="personal", lpr=0.7)[1]


@pytest.mark.parametrize("seed", range(24))
def test_anybody_may_be_killed_again_and_again_while_messages_get_lost(
    nobody_killed: Summary, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    fleet = VirtualFleet(tmp_path / "disturbed", devices=DEVICES, rounds=ROUNDS, head_mode="personal", lpr=0.7)
    for action in ("drop", "duplicate", "delay"):
        fleet.world.hub.faults.append(InjectedFault(lambda *_: chance.random() < 0.04, action, times=6))  # type: ignore[arg-type]
    for _ in range(3):
        fleet.world.at_turn[chance.randrange(5, 400)] = lambda: fleet.world.cut(chance.choice(fleet.everybody))
    fleet.world.at_turn[chance.randrange(5, 400)] = fleet.world.restart_broker
    fleet.dies = lambda name: chance.randrange(5, 250)
    fleet.start_all({name: chance.randrange(5, 120) for name in fleet.everybody})
    summary = fleet.finish()

    assert differences(fleet, summary, nobody_killed) == []


def test_run_ends_after_fewer_rounds_when_it_is_started_again_with_a_lower_count(tmp_path: Path) -> None:
    """The coordinator ends in the second of three rounds, and its next life is told to do one."""
    fleet = VirtualFleet(tmp_path, devices=2, rounds=3)

    def lower(event: AnyEvent) -> None:
        if isinstance(event, RoundStarted) and event.round == 2:
            rounds = msgspec.structs.replace(fleet.config.rounds, count=1)
            fleet.config = msgspec.structs.replace(fleet.config, rounds=rounds)
            fleet.world.lives["coordinator"].dead = True  # it gets nothing done any more

    fleet.on_event = lower
    fleet.start_all()
    summary = fleet.finish()
    assert [entry.round for entry in summary.rounds] == [1]
    assert summary.onnx
