"""A fleet whose model and updates travel as compressed integers: it learns, in a fraction of the bytes both ways, and a
crash does not show in its bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.reporting.events import RoundStarted, UpdateAccepted
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet

pytestmark = pytest.mark.system

UPDATE = '[update]\nencoding = "int4+zstd"\nbroadcast = "int8+zstd"' + NO_EXPORT


def test_compressed_updates_learn_and_survive_crashes_bit_for_bit(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with Fleet(tmp_path / "calm", mosquitto.url, "calm", devices=2, rounds=2, more=UPDATE) as fleet:
        fleet.start_all()
        calm = fleet.finish()
    with Fleet(tmp_path / "hit", mosquitto.url, "hit", devices=2, rounds=2, more=UPDATE) as fleet:
        fleet.start_all()
        fleet.wait_for(lambda seen: any(isinstance(e, RoundStarted) and e.round == 2 for e in seen))
        fleet.kill("dev-1")
        fleet.wait_for(lambda seen: any(isinstance(e, UpdateAccepted) and e.round == 2 for e in seen))
        fleet.kill("coordinator")
        fleet.start_coordinator()
        fleet.start_device(1)
        hit = fleet.finish()

    assert calm.final is not None
    assert hit.final is not None
    assert max(calm.final.accuracy.values()) > 0.5
    assert hit.final.model_digest == calm.final.model_digest
    for entry in calm.rounds:
        assert {(device.status, device.encoding) for device in entry.devices} == {("contributed", "int4+zstd")}
        assert all(0 < device.bytes_up < 1.1 * device.params_up for device in entry.devices)
        assert all(0 < device.bytes_down < 1.2 * device.params_down for device in entry.devices)
        assert entry.traffic["update"].bytes == sum(device.bytes_up for device in entry.devices)
        assert entry.traffic["control"].messages >= 3 * len(entry.devices)
        # The model is broadcast once for both; a device that was not there in time asks for it.
        assert 0 < entry.traffic["model"].bytes <= max(device.bytes_down for device in entry.devices)
