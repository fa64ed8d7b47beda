"""Fleets over a real broker and a real socket that carries little: what virtual time cannot show."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import FleetConfig
from fedlp_edge.reporting.events import UpdateAccepted
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.network import NetworkFleet
from tests.fleets.slow_link import SlowLink
from tests.fleets.standin import blueprint
from tests.fleets.virtual import VirtualFleet

pytestmark = pytest.mark.system

WIDTH = 1500
RATE = 8000.0
"""64 kbit/s, over which a round of this model takes four and a half seconds."""

MODEL_BYTES = sum(unit.nbytes for unit in blueprint(width=WIDTH).exchanged_by(2))


def config(directory: Path) -> FleetConfig:
    made = VirtualFleet(directory / "config", devices=2, rounds=1, width=WIDTH).config
    return msgspec.structs.replace(
        made,
        scheme=msgspec.structs.replace(made.scheme, depth="full"),
        export=msgspec.structs.replace(made.export, depths="none"),
    )


def test_nothing_is_sent_twice_over_a_slow_link(tmp_path: Path) -> None:
    with (
        MosquittoBroker() as broker,
        SlowLink(broker.host, broker.port, up=RATE, down=RATE) as link,
        NetworkFleet(tmp_path, config(tmp_path), {"": broker.url, "dev-1": link.url}, width=WIDTH) as fleet,
    ):
        fleet.start_all(2)
        (record,) = fleet.finish().rounds

    assert [device.status for device in record.devices] == ["contributed"] * 2
    assert record.traffic["repeat"].bytes == 0
    (slow,) = [event for event in fleet.events if isinstance(event, UpdateAccepted) and event.device == "dev-1"]
    assert slow.bytes_up < 1.05 * MODEL_BYTES
    assert link.connections == 1


def test_connection_that_is_lost_on_a_slow_link_costs_the_chunks_on_their_way_alone(tmp_path: Path) -> None:
    with (
        MosquittoBroker() as broker,
        SlowLink(broker.host, broker.port, up=4 * RATE, down=RATE) as link,
        NetworkFleet(tmp_path, config(tmp_path), {"": broker.url, "dev-1": link.url}, width=WIDTH) as fleet,
    ):
        link.cut_after(down=20_000)  # in the middle of the model
        fleet.start_all(2)
        (record,) = fleet.finish().rounds

    assert [device.status for device in record.devices] == ["contributed"] * 2
    assert link.connections == 2
    assert 0 < record.traffic["repeat"].bytes < MODEL_BYTES
