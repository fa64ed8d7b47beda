"""Brokers with a limit on messages that they announce to nobody: fleets go on without any setting."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.limits import LIMITS
from coordinator.transfer import lost_repeats
from device_agent.protocol import uploads
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.in_memory import InjectedFault
from tests.fleets.fleet import NO_EXPORT, Fleet
from tests.fleets.test_faults_killed import DEVICES, ROUNDS, differences, undisturbed
from tests.fleets.virtual import VirtualFleet


@pytest.mark.system
def test_fleet_goes_on_where_long_messages_end_the_connection(tmp_path: Path) -> None:
    with (
        MosquittoBroker(extra=["message_size_limit 64000"]) as broker,
        Fleet(
            tmp_path,
            broker.url,
            "narrow",
            devices=1,
            rounds=1,
            model="tests.field.broad:broad",
            more=NO_EXPORT,
        ) as fleet,
    ):
        fleet.start_all()
        summary = fleet.finish()
        logs = [(fleet.run / "coordinator.log").read_text(), (fleet.directory / "dev-0.log").read_text()]

    assert summary.rounds[0].devices[0].status == "contributed"
    for log, topics in zip(logs, ("model/L", "(upload|echo)/dev-0"), strict=True):
        assert re.search(rf"ends the connection behind a message of \d+ bytes on fedlp/narrow/{topics}", log)
        assert "max_packet_bytes" in log


def test_fleet_goes_on_where_long_messages_are_acknowledged_and_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lost_repeats, "LIMITS", replace(LIMITS, least_message_bytes=100))
    monkeypatch.setattr(uploads, "_LIMITS", replace(uploads._LIMITS, least_piece_bytes=100))
    _, expected = undisturbed(tmp_path / "undisturbed")
    fleet = VirtualFleet(tmp_path / "narrow", devices=DEVICES, rounds=ROUNDS)

    def too_long(topic: str, payload: bytes) -> bool:
        return topic.split("/")[2] in {"model", "repeat", "upload"} and len(payload) > 400

    fleet.world.hub.faults.append(InjectedFault(too_long, "drop"))
    fleet.start_all()

    assert differences(fleet, fleet.finish(), expected) == []
    lines = [record.getMessage() for record in caplog.records if "max_packet_bytes" in record.getMessage()]
    assert any("got nothing until it came in messages of" in line for line in lines)
    assert any("do not arrive; they go in pieces of" in line for line in lines)
