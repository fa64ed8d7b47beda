"""What a fleet must survive, shown on processes over a real Mosquitto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fedlp_edge.reporting.events import AnyEvent, DeviceJoined, DeviceLeft, RoundFinished, RoundStarted, UpdateAccepted
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mosquitto: MosquittoBroker) -> tuple[Fleet, Summary]:
    with Fleet(tmp_path_factory.mktemp("undisturbed"), mosquitto.url, "undisturbed", devices=2) as fleet:
        fleet.start_all()
        summary = fleet.finish()
        for number in range(fleet.devices):
            assert fleet.processes[f"dev-{number}"].wait(60) == 0, fleet.logs()
    return fleet, summary


def test_learns_and_ends_with_an_onnx_file_on_every_device(undisturbed: tuple[Fleet, Summary]) -> None:
    fleet, summary = undisturbed
    assert [round.round for round in summary.rounds] == [1, 2, 3]
    assert summary.final is not None
    assert max(summary.final.accuracy.values()) > 0.5
    for round in summary.rounds:
        assert {device.status for device in round.devices} == {"contributed"}
        assert all(device.bytes_up > 4 * device.params_up > 0 for device in round.devices)
    assert all(model.max_abs_diff < 1e-4 for model in summary.onnx)
    for number in range(fleet.devices):
        path = fleet.directory / f"dev-{number}" / "models" / "current.onnx"
        session = onnxruntime.InferenceSession(path)
        (logits,) = session.run(None, {"input": np.zeros((2, 1, 8, 8), np.float32)})
        assert logits.shape == (2, 10)


def test_ends_with_the_same_model_when_the_coordinator_is_killed_in_a_round(
    undisturbed: tuple[Fleet, Summary], tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    with Fleet(tmp_path, mosquitto.url, "killed", devices=2, more=NO_EXPORT) as fleet:
        fleet.start_all()
        fleet.wait_for(lambda seen: any(isinstance(e, UpdateAccepted) and e.round == 2 for e in seen))
        fleet.kill("coordinator")
        fleet.start_coordinator()
        summary = fleet.finish()
    assert summary.final is not None
    assert undisturbed[1].final is not None
    assert summary.final.model_digest == undisturbed[1].final.model_digest
    assert len(summary.rounds) == 3


def started(round: int) -> Callable[[list[AnyEvent]], bool]:
    return lambda seen: any(isinstance(event, RoundStarted) and event.round >= round for event in seen)


def finished(round: int) -> Callable[[list[AnyEvent]], bool]:
    return lambda seen: any(isinstance(event, RoundFinished) and event.round == round for event in seen)


def lost_in_a_round(fleet: Fleet, name: str) -> RoundFinished:
    """Kills a device in a round, and again in a later one if its update had come before, as it may in milliseconds."""
    for number in range(2, 12):
        begun = max(event.round for event in fleet.wait_for(started(number)) if isinstance(event, RoundStarted))
        fleet.kill(name)
        events = fleet.wait_for(finished(begun))
        ended = next(event for event in events if isinstance(event, RoundFinished) and event.round == begun)
        if name in ended.lost:
            return ended
        fleet.start_device(int(name.removeprefix("dev-")))
    raise AssertionError("the device was never killed before its update had come")


def test_ends_the_round_without_a_killed_device_and_takes_it_back(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with Fleet(tmp_path, mosquitto.url, "rejoin", rounds=16, deadline=6.0, more=NO_EXPORT) as fleet:
        fleet.start_all()
        without = lost_in_a_round(fleet, "dev-1")
        assert without.contributors == 2
        assert without.seconds >= 6.0
        seen = fleet.wait_for(lambda seen: any(isinstance(e, DeviceLeft) and e.device == "dev-1" for e in seen))
        joined = sum(isinstance(e, DeviceJoined) and e.device == "dev-1" for e in seen)
        fleet.start_device(1)
        fleet.wait_for(lambda seen: sum(isinstance(e, DeviceJoined) and e.device == "dev-1" for e in seen) > joined)
        summary = fleet.finish()
    assert len(summary.rounds) == 16
    states = [device.status for entry in summary.rounds for device in entry.devices if device.id == "dev-1"]
    assert states[-1] == "contributed"
    assert "lost" in states


def test_says_how_to_go_on_when_stopped_and_goes_on(
    undisturbed: tuple[Fleet, Summary], tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    with Fleet(tmp_path, mosquitto.url, "stopped", devices=2, more=NO_EXPORT) as fleet:
        fleet.start_all()
        fleet.wait_for(lambda seen: any(isinstance(e, RoundFinished) for e in seen))
        assert fleet.stop("coordinator") == 130
        assert fleet.stop("dev-0") == 130
        fleet.start_coordinator()
        fleet.start_device(0)
        summary = fleet.finish()
    assert summary.final is not None
    assert undisturbed[1].final is not None
    assert summary.final.model_digest == undisturbed[1].final.model_digest
