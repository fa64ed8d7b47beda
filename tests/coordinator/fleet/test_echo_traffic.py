from __future__ import annotations

from coordinator.fleet.echo_traffic import EchoTraffic
from fedlp_edge.reporting.summary import Purpose
from fedlp_edge.wire.messages import Status


def counted(*reports: tuple[str, str, int, bool]) -> list[tuple[Purpose, int]]:
    """What is counted of reports of (device, session, bytes, whether an earlier life knew them)."""
    found: list[tuple[Purpose, int]] = []
    traffic = EchoTraffic(lambda purpose, nbytes: found.append((purpose, nbytes)))
    for device, session, nbytes, known in reports:
        traffic.reported(Status(device=device, online=True, session=session, echo_bytes=nbytes), known=known)
    return found


def test_counts_what_is_new_since_the_report_before() -> None:
    assert counted(("a", "1", 300, False), ("a", "1", 300, False), ("b", "1", 50, False), ("a", "1", 316, False)) == [
        ("echo", 300),
        ("echo", 50),
        ("echo", 16),
    ]


def test_an_agent_that_was_started_again_begins_anew() -> None:
    assert counted(("a", "1", 300, False), ("a", "2", 200, False)) == [("echo", 300), ("echo", 200)]


def test_what_an_earlier_life_of_the_coordinator_has_counted_is_not_counted_again() -> None:
    assert counted(("a", "1", 300, True), ("a", "1", 316, False)) == [("echo", 16)]


def test_a_number_that_falls_takes_nothing_back() -> None:
    assert counted(("a", "1", 300, False), ("a", "1", 10, False), ("a", "1", 310, False)) == [
        ("echo", 300),
        ("echo", 10),
    ]
