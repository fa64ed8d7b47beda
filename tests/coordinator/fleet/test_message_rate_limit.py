from __future__ import annotations

import pytest

from coordinator.fleet.message_rate_limit import MessageRateLimit
from coordinator.limits import LIMITS


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_flood_of_a_device_is_accepted_for_a_while_and_costs_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limit = MessageRateLimit(clock)
    accepted = 0
    for step in range(12_000):
        clock.now = step / 200
        accepted += limit.allows("loud")

    assert accepted <= LIMITS.message_burst + 60 * LIMITS.messages_per_second
    assert all(limit.allows("quiet") for _ in range(LIMITS.message_burst))
    assert len(caplog.records) <= 6


def test_what_was_ignored_is_counted_once_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limit = MessageRateLimit(clock)
    for _ in range(LIMITS.message_burst + 5):
        limit.allows("loud")
    clock.now = 60.0

    assert limit.allows("loud")
    assert [record.getMessage() for record in caplog.records] == [
        "loud says too much; what comes faster than 0.5 messages a second is ignored (if it sends no such thing, "
        "bridges between brokers may pass messages in a circle)",
        "loud said too much: 5 of its messages were ignored",
    ]


def test_steady_reports_are_always_accepted() -> None:
    clock = Clock()
    limit = MessageRateLimit(clock)
    for step in range(500):
        clock.now = step * 5.0
        assert limit.allows("pi")


def test_names_without_number_take_no_memory() -> None:
    limit = MessageRateLimit(Clock())
    accepted = sum(limit.allows(f"forged-{number}") for number in range(LIMITS.message_accounts + 1000))

    assert accepted == LIMITS.message_accounts + LIMITS.message_burst
