"""Roll-outs to whole fleets in virtual time: who gets a model, and who never sees a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.rollout.rollout_directory import RolloutStatus
from fedlp_edge.core.model_card import CARD_FILE, MeasuredCost, ModelCard, encode_card
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.errors import BrokerError, OperatorError
from fedlp_edge.transport.base import Refused
from fedlp_edge.transport.in_memory import InjectedFault
from fedlp_edge.wire.messages import Status, encode
from tests.coordinator.rollout.test_release_files import entry
from tests.fleets.rolled_out import FLEET, RolledOutFleet, write_release

GOOD = b"good of depth 1"


def states(found: RolloutStatus) -> dict[str, str]:
    return {device: standing.state for device, standing in found.devices.items()}


def updated(directory: Path, devices: int) -> RolledOutFleet:
    """A fleet whose devices have a model already, and a directory with inputs for the next exam."""
    fleet = RolledOutFleet(directory, devices)
    fleet.start_agents()
    fleet.deploy(write_release(directory / "first", b"first"), name="first", canary="")
    assert fleet.until_ended("first").phase == "done"
    assert {fleet.current(name) for name in fleet.names} == {b"first of depth 1"}
    return fleet


def test_model_reaches_every_device_the_canary_first(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=3)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    found = fleet.until_ended()
    assert found.phase == "done"
    assert states(found) == dict.fromkeys(fleet.names, "installed")
    assert sorted(standing.group for standing in found.devices.values()) == [1, 2, 2]
    assert {fleet.current(name) for name in fleet.names} == {GOOD}
    fleet.end()


def test_device_of_which_the_broker_alone_has_kept_a_status_is_no_canary(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    facts = DeviceFacts(training_memory=10**9, training_macs_per_second=1e9, samples=10, memory_available=10**9)
    kept = Status(device="ghost", online=True, session="0000", facts=facts)
    fleet.world.hub.retained[f"fedlp/{FLEET}/device/ghost"] = encode(kept)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    found = fleet.until_ended()
    assert found.phase == "done"
    assert [name for name, standing in found.devices.items() if standing.state == "installed"] == fleet.names
    assert found.left_out == {"ghost": "the broker has kept its status, and nothing else was heard of it"}
    fleet.end()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"bad", "the model answers its self-test otherwise"),
        (b"odd", "the model agrees with the old one on 10% of 1 inputs of this device; 50% are asked for"),
        (b"late", "the model failed its first inferences: it ends by SIGSEGV"),
    ],
)
def test_bad_model_is_seen_by_the_canary_alone_and_runs_nowhere(tmp_path: Path, content: bytes, reason: str) -> None:
    fleet = updated(tmp_path, devices=6)
    fleet.deploy(write_release(tmp_path / "second", content))
    found = fleet.until_ended()
    assert (found.phase, found.reason) == ("stopped", "1 of 1 devices that were tried have failed")
    assert sorted(states(found).values()) == ["failed", *["waiting"] * 5]
    assert [standing.reason for standing in found.devices.values() if standing.reason] == [reason]
    assert {fleet.current(name) for name in fleet.names} == {b"first of depth 1"}
    assert fleet.carried("second") == 1, "five have never seen it"
    fleet.end()


def test_chunks_that_are_lost_are_sent_again(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.start_agents()
    for name in fleet.names:
        lost = InjectedFault(lambda topic, _: "/repeat/" in topic, "drop", times=2, receiver=name)
        fleet.world.hub.faults.append(lost)
    fleet.deploy(write_release(tmp_path / "good", b"good" * 2000))
    assert fleet.until_ended().phase == "done"
    fleet.end()


def test_device_that_is_killed_before_any_step_of_an_installation_ends_with_the_new_model(tmp_path: Path) -> None:
    def story(directory: Path, die_at: int | None) -> RolledOutFleet:
        fleet = RolledOutFleet(directory, devices=1)
        fleet.start_agents({"dev-0": die_at} if die_at else {})
        fleet.deploy(write_release(directory / "good", b"good"))
        found = fleet.until_ended()
        assert (found.phase, states(found)) == ("done", {"dev-0": "installed"}), fleet.story()
        assert fleet.current("dev-0") == GOOD
        fleet.end()
        return fleet

    steps = story(tmp_path / "whole", None).steps("dev-0")
    for at in range(1, len(steps) + 1):
        story(tmp_path / f"{at}", at)


def test_paused_roll_out_goes_on_when_it_is_told_to(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=3)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    fleet.pass_time(8.0)
    fleet.rollout().say("pause")
    fleet.pass_time(60.0)
    found = fleet.rollout().status()
    assert found.phase == "paused"
    assert sorted(states(found).values()) == ["installed", "waiting", "waiting"]
    fleet.rollout().say("resume")
    assert fleet.until_ended().phase == "done"
    fleet.end()


def test_aborted_roll_out_tells_nobody_else(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=3)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    fleet.pass_time(8.0)
    fleet.rollout().say("abort")
    found = fleet.until_ended()
    assert found.phase == "aborted"
    assert sorted(states(found).values()).count("waiting") == 2
    fleet.end()


def test_roll_out_that_may_not_hear_devices_ends_with_the_topic(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path)
    life = fleet.deploy(write_release(tmp_path / "good", b"good"))
    fleet.pass_time(1.0)
    life.inbox.put(Refused(f"fedlp/{FLEET}/up/+", "Not authorized"))
    with pytest.raises(BrokerError, match=r"refuses the subscription to fedlp/rolled/up/\+: Not authorized"):
        fleet.until_ended()
    fleet.end()


def test_device_that_comes_later_gets_the_model_too(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=3)
    fleet.start_agent("dev-0")
    fleet.start_agent("dev-1")
    fleet.deploy(write_release(tmp_path / "good", b"good"), probation_seconds=30.0)
    fleet.pass_time(10.0)
    fleet.start_agent("dev-2")
    found = fleet.until_ended()
    assert states(found) == dict.fromkeys(fleet.names, "installed")
    assert found.devices["dev-2"].group == 2
    fleet.end()


def test_device_that_falls_silent_has_failed(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"), patience_seconds=60.0, canaries=("dev-0",))
    deaf = InjectedFault(lambda topic, _: "/down/" in topic, "drop", receiver="dev-0")
    fleet.world.hub.faults.append(deaf)
    found = fleet.until_ended()
    assert found.phase == "stopped"
    assert found.devices["dev-0"].reason == "nothing was heard of it for 60 s after it was told to install the model"
    assert fleet.current("dev-1") == b""
    fleet.end()


def test_broker_that_is_away_for_long_makes_no_device_fail(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"), patience_seconds=60.0, canaries=("dev-0",))
    while not any("group 1 of" in line for line in fleet.said):
        fleet.pass_time(0.1)
    fleet.world.restart_broker(900.0)
    found = fleet.until_ended()
    assert fleet.world.now > 900.0
    assert states(found) == dict.fromkeys(fleet.names, "installed")
    fleet.end()


def test_devices_that_no_file_suits_are_left_out(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.start_agents()
    release = write_release(tmp_path / "good", b"good")
    large = entry(release / "model-d1.onnx", 1, cost=MeasuredCost(milliseconds={}, mean_milliseconds=1.0, memory=10**9))
    card = ModelCard(model="m", task="classification", input_shape=(1,), files=(large,))
    (release / CARD_FILE).write_bytes(encode_card(card))
    fleet.deploy(release)
    found = fleet.until_ended()
    assert states(found) == {"dev-1": "installed"}
    assert found.left_out == {"dev-0": "answers of the smallest file that is asked for take 1.0 GB, and it has 50.0 MB"}
    fleet.end()


def test_model_that_does_not_run_here_is_told_before_any_device_is(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=1)
    fleet.start_agents()
    release = write_release(tmp_path / "good", b"no model")
    (release / "model-d1.selftest.npz").unlink()
    fleet.deploy(release)
    with pytest.raises(OperatorError, match="has no self-test, and none can be made: does not load in onnxruntime"):
        fleet.until_ended()
    assert fleet.carried("") == 0
    assert fleet.rollout().events() == []
    fleet.end()


def test_failed_model_is_tried_again_by_another_roll_out(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=1)
    fleet.start_agents()
    release = write_release(tmp_path / "good", b"bad")
    for name in ("first", "second"):
        fleet.deploy(release, name=name, run=f"deploy-{name}")
        assert fleet.until_ended(name).phase == "stopped"
    assert fleet.steps("dev-0").count("link") == 2, "the second answer is no repetition of the first"
    fleet.end()


def test_roll_out_without_devices_is_told(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=0)
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    with pytest.raises(OperatorError, match='no device of fleet "rolled" that suits the release was seen in 63 s'):
        fleet.until_ended()


def test_agents_that_measure_themselves_are_waited_for(tmp_path: Path) -> None:
    fleet = RolledOutFleet(tmp_path, devices=2)
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    fleet.world.after(30.0, lambda: fleet.start_agent("dev-0"))
    fleet.world.after(32.0, lambda: fleet.start_agent("dev-1"))
    found = fleet.until_ended()
    assert states(found) == dict.fromkeys(fleet.names, "installed")
    assert fleet.said[0] == "no device is there yet; waiting up to 60 s"
    assert fleet.said[1].endswith(": 2 devices in groups of 1, 1")
    fleet.end()
