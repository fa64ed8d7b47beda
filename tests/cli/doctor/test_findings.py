"""What the doctor says of a broker's measurements."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.cli.doctor.findings import BrokerMeasurements, Route, findings_of, key_lines
from fedlp_edge.transport.address import BrokerSettings

GOOD = BrokerMeasurements(
    protocol="5",
    blocked=(),
    echo=True,
    packet=4 << 20,
    retained=1 << 20,
    last_will=True,
    in_flight=20,
    queue=1000,
    queue_dropped=True,
    answer_seconds=0.01,
    round_trip_seconds=0.01,
    bytes_per_second=1e7,
)


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({}, "queue", "ok"),
        ({"blocked": (Route("device", "publish", "t", "no"),)}, "access rules", "failure"),
        ({"blocked": None}, "access rules", "failure"),
        ({"forgeable": True}, "access rules", "warning"),
        ({"echo": False}, "echo", "warning"),
        ({"echo": None}, "echo", "warning"),
        ({"packet": 0}, "largest packet", "failure"),
        ({"packet": 1500}, "largest packet", "failure"),
        ({"packet": 65536}, "largest packet", "warning"),
        ({"retained": 0}, "retained messages", "failure"),
        ({"last_will": False}, "last will", "warning"),
        ({"queue": 3}, "queue", "failure"),
        ({"queue": 100}, "queue", "warning"),
        ({"queue": None}, "queue", "warning"),
        ({"queue": 1180, "queue_dropped": False}, "queue", "ok"),
        ({"answer_seconds": None}, "two processes", "failure"),
        ({"round_trip_seconds": 0.4}, "round trip", "warning"),
        ({"bytes_per_second": 5e5}, "throughput", "warning"),
        ({"bytes_per_second": None}, "throughput", "warning"),
    ],
)
def test_judges(change: dict[str, object], check: str, level: str) -> None:
    findings = findings_of(msgspec.structs.replace(GOOD, **change), BrokerSettings().address({}))

    (found,) = [finding for finding in findings if finding.check == check]
    assert found.level == level
    assert found.advice or level == "ok"


def test_asks_for_no_keys_that_the_fleet_has_already() -> None:
    known = BrokerSettings(max_queued_messages=50).address({})
    short = msgspec.structs.replace(GOOD, queue=50)

    assert key_lines(short, BrokerSettings().address({})) == ("max_queued_messages = 50",)
    assert key_lines(short, known) == ()
    (queue,) = [finding for finding in findings_of(short, known) if finding.check == "queue"]
    assert "small slices" in queue.advice


def test_suggests_the_preset_of_a_hosted_broker() -> None:
    hosted = msgspec.structs.replace(GOOD, preset="aws-iot", queue_dropped=False)

    assert key_lines(hosted, BrokerSettings().address({})) == ('preset = "aws-iot"',)
    assert key_lines(hosted, BrokerSettings(preset="aws-iot").address({})) == ()
