"""Fleets over brokers that carry little at a time, and hold little for whoever is slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet

pytestmark = pytest.mark.system

DROPS = "Outgoing messages are being dropped"
"""What Mosquitto writes to its log when a subscriber's queue is full."""


@pytest.mark.parametrize(("told", "rounds"), [(True, 2), (False, 1)], ids=["told", "not told"])
def test_completes_with_small_packets_and_a_short_queue(tmp_path: Path, told: bool, rounds: int) -> None:
    limits = ["max_packet_size 100000", "max_queued_messages 50"]
    with (
        MosquittoBroker(extra=limits) as broker,
        Fleet(
            tmp_path,
            broker.url,
            "restricted",
            devices=2,
            rounds=rounds,
            model="tests.fleets.wide:wide",
            broker="max_queued_messages = 50" if told else "",
            more=NO_EXPORT,
        ) as fleet,
    ):
        fleet.start_all()
        summary = fleet.finish()
        log = broker.log()
    assert len(summary.rounds) == rounds
    for round in summary.rounds:
        assert {device.status for device in round.devices} == {"contributed"}
        assert all(device.bytes_up > 16_000_000 for device in round.devices)
        if told:
            assert round.traffic["repeat"].bytes < round.traffic["model"].bytes
    if told:
        assert DROPS not in log
