"""A device with a login of its own that floods the coordinator, and whose words are meant for a terminal."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from coordinator.limits import LIMITS
from fedlp_edge.cli.status import run_status
from fedlp_edge.reporting.log import FILE_NAME, EventLog
from fedlp_edge.wire.messages import Failure, Status, encode
from tests.coordinator.fleets import facts
from tests.fleets.test_faults_killed import DEVICES, ROUNDS, differences, undisturbed
from tests.fleets.virtual import VirtualFleet

ESCAPES = "\x1b[2J\x1b[31m\x1b]0;owned\x07\r\n\u202e"
FLOOD = 200


def flood(fleet: VirtualFleet) -> None:
    """Hundreds of messages, all under the device's own name, as access rules allow."""
    evil = fleet.world.hub.transport("evil")
    evil.start(lambda _: None)
    for number in range(FLOOD):
        report = Status(device="evil", online=True, session=f"{number}", facts=facts(samples=number + 1))
        raw = msgspec.json.decode(encode(report))
        raw["facts"]["profile"] = raw["facts"]["hostname"] = ESCAPES * 2000
        evil.publish("fedlp/virtual/device/evil", msgspec.json.encode(raw), retain=True)
        failure = Failure(run="x", device="evil", session=f"{number}", kind="worker", reason="x")
        raw = msgspec.json.decode(encode(failure))
        raw |= {"run": fleet.config.run_name, "reason": (ESCAPES * 300)[:2000]}
        evil.publish("fedlp/virtual/up/evil", msgspec.json.encode(raw))
        evil.publish("fedlp/virtual/up/evil", (ESCAPES * 100).encode())
        evil.publish("fedlp/virtual/upload/evil", ESCAPES.encode())


def test_flood_of_hostile_words_is_bounded_harmless_and_changes_no_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    first, expected = undisturbed(tmp_path / "undisturbed")
    fleet = VirtualFleet(tmp_path / "flooded", devices=DEVICES, rounds=ROUNDS)
    fleet.world.at_turn[first.world.turns // 2] = lambda: flood(fleet)
    fleet.start_all()

    summary = fleet.finish()

    assert differences(fleet, summary, expected) == []
    most = LIMITS.message_burst + fleet.world.now * LIMITS.messages_per_second
    assert sum(getattr(event, "device", "") == "evil" for event in fleet.events) <= most
    assert sum("evil" in record.getMessage() for record in caplog.records) <= 2 * most
    with EventLog.open(tmp_path / FILE_NAME) as log:
        for event in fleet.events:
            log.write(event)
    assert (tmp_path / FILE_NAME).stat().st_size < 100_000
    run_status(tmp_path)
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "\x07" not in shown
