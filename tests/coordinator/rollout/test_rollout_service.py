"""One process at a time carries a roll-out out, and what a kill, a stop or another coordinator changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.inbox import StopRequested
from coordinator.rollout.rollout_directory import RolloutStatus
from fedlp_edge.errors import OperatorError
from fedlp_edge.wire.messages import Announcement, ShadowFigures, encode
from tests.coordinator.rollout.test_rollout_loop import GOOD, states, updated
from tests.fleets.rolled_out import FLEET, RolledOutFleet, write_release


def test_roll_out_that_is_killed_before_any_step_ends_as_if_it_were_not(tmp_path: Path) -> None:
    def story(directory: Path, die_at: int | None) -> RolledOutFleet:
        fleet = RolledOutFleet(directory, devices=3)
        fleet.start_agents()
        fleet.deploy(write_release(directory / "good", b"good"), die_at=die_at)
        assert fleet.until_ended().phase == "done"
        fleet.end()
        return fleet

    steps = story(tmp_path / "whole", None).steps("rollout")
    for at in range(1, len(steps) + 1):
        fleet = story(tmp_path / f"{at}", at)
        found = fleet.rollout().status()
        assert states(found) == dict.fromkeys(fleet.names, "installed"), f"killed before step {at}, {steps[at - 1]}"
        assert {fleet.current(name) for name in fleet.names} == {GOOD}


def test_bad_model_stays_with_its_canary_when_the_roll_out_is_killed(tmp_path: Path) -> None:
    def story(directory: Path, die_at: int | None) -> RolledOutFleet:
        fleet = RolledOutFleet(directory, devices=3)
        fleet.start_agents()
        fleet.deploy(write_release(directory / "bad", b"bad"), die_at=die_at)
        assert fleet.until_ended().phase == "stopped"
        fleet.end()
        return fleet

    steps = story(tmp_path / "whole", None).steps("rollout")
    for at in range(1, len(steps) + 1):
        fleet = story(tmp_path / f"{at}", at)
        assert sorted(states(fleet.rollout().status()).values()).count("failed") == 1
        assert fleet.carried("bad") == 1, f"killed before step {at}, {steps[at - 1]}"


def test_stopped_process_says_that_it_is_gone_and_goes_on_later(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.start_agents()
    release = write_release(tmp_path / "good", b"good")
    life = fleet.deploy(release)
    fleet.pass_time(6.0)
    life.inbox.put(StopRequested())
    fleet.until_ended()
    assert life.result is False
    assert b'"online":false' in fleet.world.hub.retained[f"fedlp/{FLEET}/coordinator"]
    life = fleet.deploy(release)
    assert fleet.until_ended().phase == "done"
    assert life.result is True
    fleet.end()


def test_roll_out_does_not_begin_while_a_coordinator_is_at_work(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=1)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"), probation_seconds=1000.0)
    fleet.pass_time(10.0)
    fleet.deploy(write_release(tmp_path / "other", b"other"), name="other")
    line = r'^a coordinator \(run .+\) is at work for fleet "rolled"; let it end, or stop it, and deploy then$'
    with pytest.raises(OperatorError, match=line):
        fleet.until_ended("other")
    fleet.end()


def test_announcement_of_an_earlier_life_is_void(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=1)
    word = Announcement(online=True, run="old", session="old", state="running")
    fleet.world.hub.retained[f"fedlp/{FLEET}/coordinator"] = encode(word)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    assert fleet.until_ended().phase == "done"
    fleet.end()


def known(found: RolloutStatus) -> dict[str, tuple[str, ShadowFigures | None]]:
    """The file of each device, and what its exam has found."""
    return {device: (standing.file, standing.shadow) for device, standing in found.devices.items()}


def test_roll_out_that_is_over_keeps_what_is_known_of_its_devices(tmp_path: Path) -> None:
    fleet = updated(tmp_path, devices=2)
    release = write_release(tmp_path / "odd", b"odd")
    fleet.deploy(release)
    stopped = fleet.until_ended()
    assert stopped.phase == "stopped"
    assert {standing.file for standing in stopped.devices.values()} == {"model-d1.onnx"}
    assert sorted(standing.shadow is not None for standing in stopped.devices.values()) == [False, True]

    fleet.deploy(release)
    assert known(fleet.until_ended()) == known(stopped)
    fleet.end()
