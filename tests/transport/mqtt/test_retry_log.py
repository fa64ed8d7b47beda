from __future__ import annotations

from fedlp_edge.transport.mqtt.retry_log import RetryLog


def test_tells_a_reason_that_stays_ever_more_rarely_and_a_new_one_at_once() -> None:
    told = RetryLog()
    day = [now for now in range(0, 86400, 5) if told.is_news("nothing listens", now)]
    assert day[:6] == [0, 60, 180, 420, 900, 1860]
    assert len(day) < 40
    assert told.is_news("the login is refused", 86401)
    assert not told.is_news("the login is refused", 86402)
    assert told.is_news("nothing listens", 86403)
