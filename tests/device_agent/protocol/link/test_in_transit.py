"""What is still on its way is not missing: echoes that come back behind it, and brokers that carry none."""

from __future__ import annotations

import pytest

from device_agent.limits import LIMITS
from device_agent.protocol.events import Effects, SendProbe, Subscribe
from device_agent.protocol.link.in_transit import InTransitCheck
from tests.device_agent.support import ME, numbered, only

TOPIC = "fedlp/demo/echo/pi"


def ready() -> InTransitCheck:
    check = InTransitCheck(ME, numbered())
    check.subscribed(TOPIC)
    return check


def link_probe(effects: Effects) -> bytes:
    return only(effects, SendProbe).payload


def test_knows_that_all_has_come_once_an_echo_is_back_that_was_sent_later() -> None:
    check = ready()

    assert not check.nothing_before(1.0, now=2.0)
    payload = link_probe(check.poll(2.0))
    assert not check.nothing_before(1.0, now=3.0)
    assert check.poll(3.0) == []
    check.received(payload)

    assert check.nothing_before(1.0, now=4.0)
    assert check.nothing_before(2.0, now=4.0)
    assert not check.nothing_before(2.1, now=4.0)


def test_subscribes_before_its_first_echo_and_once() -> None:
    check = InTransitCheck(ME, numbered())
    assert check.poll(0.0) == []

    check.nothing_before(0.0, now=1.0)

    assert check.poll(1.0) == [Subscribe(TOPIC)]
    assert check.poll(1.1) == []
    assert check.next_wakeup() is None
    check.subscribed(TOPIC)
    assert link_probe(check.poll(1.2))


def test_sends_another_echo_ever_more_rarely_and_then_gives_up_on_them_this_time() -> None:
    check = ready()
    check.set_works(works=True)
    check.nothing_before(0.0, now=0.0)
    now, times = 0.0, []
    while not check.nothing_before(0.0, now):
        if check.poll(now):
            times.append(now)
        due = check.next_wakeup()
        now = now if due is None else max(now, due)

    assert times == [0.0, LIMITS.in_transit.patience_seconds, 3 * LIMITS.in_transit.patience_seconds]
    assert (len(times), now) == (LIMITS.in_transit.echoes, 7 * LIMITS.in_transit.patience_seconds)
    assert not check.nothing_before(1.0, now)  # the next time it tries again


def test_an_echo_that_waits_its_turn_behind_other_messages_is_not_given_up() -> None:
    check = ready()
    check.nothing_before(0.0, now=0.0)
    payload = link_probe(check.poll(0.0))
    for second in range(1, 200):
        check.received_something(float(second))
        assert check.poll(float(second)) == []

    check.received(payload)

    assert check.nothing_before(0.0, now=200.0)


def test_an_echo_that_never_comes_is_given_up_though_other_messages_come_all_the_time() -> None:
    check = ready()
    check.nothing_before(0.0, now=0.0)
    second = 0
    while not check.nothing_before(0.0, float(second)):
        check.poll(float(second))
        check.received_something(float(second))
        second += 1
        assert second < 1000

    assert LIMITS.in_transit.longest_seconds <= second <= LIMITS.in_transit.longest_seconds + 35


@pytest.mark.parametrize("known", [True, False])
def test_silence_has_to_do_where_no_echo_ever_comes_back(known: bool) -> None:
    check = ready()
    if known:
        check.set_works(works=False)
    else:
        check.nothing_before(0.0, now=0.0)
        for now in (0.0, 5.0, 15.0, 35.0):
            check.poll(now)

    assert check.nothing_before(100.0, now=100.0)
    assert check.poll(100.0) == []
    assert check.next_wakeup() is None


def test_a_lost_connection_takes_its_echoes_along() -> None:
    check = ready()
    check.nothing_before(0.0, now=0.0)
    lost = link_probe(check.poll(0.0))

    check.interrupted()

    check.received(lost)
    assert not check.nothing_before(0.0, now=1.0)
    assert link_probe(check.poll(1.0)) != lost
