from __future__ import annotations

import pytest

from coordinator.fleet.device_search import DeviceSearch
from coordinator.limits import LIMITS
from fedlp_edge.transport.in_memory import MemoryHub, MemoryTransport
from fedlp_edge.wire.topics import Topics

FILTERS = ["+/fedlp/demo/device/+", "+/+/fedlp/demo/device/+"]


@pytest.fixture
def transport() -> MemoryTransport:
    transport = MemoryHub().transport("coordinator")
    transport.start(lambda _: None)
    return transport


def test_looks_under_other_names_when_no_device_is_heard_for_long(transport: MemoryTransport) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=100.0)
    search.tick(100.0 + LIMITS.search_seconds - 0.1, alone=True)
    assert list(transport.topics) == []
    search.tick(100.0 + LIMITS.search_seconds, alone=True)
    assert list(transport.topics) == FILTERS
    assert all(search.asked(topic) for topic in FILTERS)
    assert not search.asked("fedlp/demo/device/+")


def test_ends_its_only_search_when_a_device_comes(transport: MemoryTransport) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=0.0)
    search.tick(LIMITS.search_seconds, alone=True)
    search.tick(LIMITS.search_seconds, alone=False)
    assert list(transport.topics) == []
    search.tick(10 * LIMITS.search_seconds, alone=True)
    assert list(transport.topics) == []


def test_never_looks_where_a_device_came_first(transport: MemoryTransport) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=0.0)
    search.tick(1.0, alone=False)
    search.tick(LIMITS.search_seconds, alone=True)
    assert list(transport.topics) == []


def test_says_once_that_nobody_is_heard(transport: MemoryTransport, caplog: pytest.LogCaptureFixture) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=0.0)
    for seconds in (20.0, 59.0, 60.0, 61.0, 600.0):
        search.tick(seconds, alone=True)
        assert len(caplog.messages) == (seconds >= 60.0)
    assert caplog.messages[0].startswith(
        'no device of fleet "demo" has been heard of at this broker: are agents started'
    )


def test_says_nothing_where_a_device_came(transport: MemoryTransport, caplog: pytest.LogCaptureFixture) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=0.0)
    for seconds, alone in ((20.0, True), (30.0, False), (90.0, True)):
        search.tick(seconds, alone=alone)
    assert caplog.messages == []


def test_says_twice_what_the_broker_calls_a_topic(transport: MemoryTransport, caplog: pytest.LogCaptureFixture) -> None:
    search = DeviceSearch(Topics("demo"), transport, now=0.0)
    for topic in ("site/fedlp/demo/device/pi", "site/other", "site/third"):
        search.unexpected_topic(topic)
    advice = (
        "; a mount_point of a listener or a prefix of a bridge does so: let coordinator and devices use a listener "
        "without one"
    )
    assert caplog.messages == [
        f"this broker renames topics: fedlp/demo/device/pi is called site/fedlp/demo/device/pi here{advice}",
        f"this broker renames topics: what was subscribed to arrives as site/other{advice}",
    ]
