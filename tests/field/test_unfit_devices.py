"""Real agents whose data cannot be trained on, beside good ones and alone, over a real broker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.reporting.events import RunStopped
from fedlp_edge.reporting.log import read_events
from fedlp_edge.reporting.summary import load
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet

pytestmark = pytest.mark.system


def write_npz(path: Path, *, samples: int = 40, classes: int = 10, shape: tuple[int, ...] = (1, 8, 8)) -> str:
    rng = np.random.default_rng(1)
    labels = np.arange(samples) % classes
    np.savez(path, x=rng.random((samples, *shape), np.float32), y=labels)
    return f"npz:{path}"


LASTING = {
    "labels": ({"classes": 12}, "the labels go up to 11 but the model has 10 classes"),
    "one": ({"samples": 1}, "training needs two samples at least"),
}


def test_devices_with_good_data_go_on_without_those_whose_data_do_not_fit(
    tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    with Fleet(tmp_path, mosquitto.url, "unfit", devices=4, rounds=2, deadline=120, more=NO_EXPORT) as fleet:
        fleet.start_coordinator()
        for number in range(2):
            fleet.start_device(number)
        for number, (changes, _) in enumerate(LASTING.values(), start=2):
            fleet.start_device(number, "--data", write_npz(tmp_path / f"{number}.npz", **changes))
        summary = fleet.finish()
    assert summary.final is not None
    outcomes = {device.id: device for device in summary.devices}
    assert [outcomes[f"dev-{number}"].contributed for number in range(2)] == [2, 2]
    for number, (_, words) in enumerate(LASTING.values(), start=2):
        bad = outcomes[f"dev-{number}"]
        assert (bad.contributed, bad.state) == (0, "unfit")
        assert words in bad.reason


def test_run_ends_with_the_reason_when_no_data_fit(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with Fleet(tmp_path, mosquitto.url, "none-fit", devices=2, deadline=120, more="rejoin_seconds = 1.0") as fleet:
        fleet.start_coordinator()
        for number in range(2):
            fleet.start_device(number, "--data", write_npz(tmp_path / f"{number}.npz", classes=12))
        assert fleet.processes.pop("coordinator").wait(180) == 2
    said = (tmp_path / "coordinator.log").read_text()
    assert "error: none of the 2 devices can do its task, all for the same reason: the labels go up to 11" in said
    last = read_events(fleet.run / "events.jsonl")[-1]
    assert isinstance(last, RunStopped)
    assert last.reason == "error"
    assert {device.state for device in load(fleet.run / "summary.json").devices} == {"unfit"}
