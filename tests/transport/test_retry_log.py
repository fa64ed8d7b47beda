from __future__ import annotations

from fedlp_edge.transport.base import Refused
from fedlp_edge.transport.retry_log import RefusalLog, RetryLog


def test_tells_a_reason_that_stays_ever_more_rarely_and_a_new_one_at_once() -> None:
    told = RetryLog()
    day = [now for now in range(0, 86400, 5) if told.is_news("nothing listens", now)]
    assert day[:6] == [0, 60, 180, 420, 900, 1860]
    assert len(day) < 40
    assert told.is_news("the login is refused", 86401)
    assert not told.is_news("the login is refused", 86402)
    assert told.is_news("nothing listens", 86403)


def test_refusals_of_several_topics_do_not_make_each_other_news() -> None:
    refusals = RefusalLog("the coordinator's")
    told = [
        (topic, second)
        for second in range(0, 200, 5)
        for topic in ("up", "status")
        if refusals.line(Refused(topic, "Not authorized", token=1), second)
    ]
    assert told == [("up", 0), ("status", 0), ("up", 60), ("status", 60), ("up", 180), ("status", 180)]
    assert refusals.line(Refused("up", "Quota exceeded", token=1), 181) == (
        "the broker refuses up: Quota exceeded; check its access rules for the coordinator's login"
    )


def test_a_refused_subscription_and_a_message_that_is_too_long_are_told_as_what_they_are() -> None:
    refusals = RefusalLog("this device's")
    assert refusals.words(Refused("down/pi", "Not authorized")) == (
        "the broker refuses the subscription to down/pi: Not authorized; check its access rules for this device's login"
    )
    assert refusals.words(Refused("up/pi", "9 bytes are over the limit", 1, too_long=True)) == (
        "the broker refuses a message on up/pi: 9 bytes are over the limit"
    )


def test_the_time_in_a_reason_makes_no_other_reason() -> None:
    told, line = (
        RetryLog(),
        "the certificate expired at 2026-10-30 16:49 UTC, and the clock says 2026-11-29 16:{:02} UTC",
    )
    assert [m for m in range(20) if told.is_news(line.format(m), 60.0 * m)] == [0, 1, 3, 7, 15]
