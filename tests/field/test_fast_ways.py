"""Fast ways that do not work cost no device its round: real fleets."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet


@pytest.mark.system
@pytest.mark.parametrize(
    ("model", "devices", "said"),
    [
        ("fails", 2, "bfloat16-channels-last failed (RuntimeError: could not create a primitive)"),
        ("crashes", 1, "the worker process was ended by SIGSEGV"),
    ],
)
def test_fleet_trains_on_where_a_compute_mode_fails(
    tmp_path: Path, mosquitto: MosquittoBroker, model: str, devices: int, said: str
) -> None:
    with Fleet(
        tmp_path, mosquitto.url, model, devices=devices, rounds=2, model=f"tests.field.fragile:{model}", more=NO_EXPORT
    ) as fleet:
        config = fleet.directory / "fleet.toml"
        config.write_text(config.read_text().replace("[training]", '[training]\ncompute = "bfloat16-channels-last"'))
        fleet.start_all()
        summary = fleet.finish()
        logs = [(fleet.directory / f"dev-{number}.log").read_text() for number in range(devices)]

    assert [round.round for round in summary.rounds] == [1, 2]
    for round in summary.rounds:
        assert [(device.status, device.compute) for device in round.devices] == [("contributed", "float32")] * devices
    for log in logs:
        assert log.count(said) == 1, log
