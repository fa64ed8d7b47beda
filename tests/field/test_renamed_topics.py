"""Coordinator and device at two listeners of one broker, of which one renames topics: who can see it says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator.fleet.device_search import DeviceSearch
from coordinator.limits import LIMITS
from device_agent.protocol.events import Effects, Log, Subscribe, Tick, Unsubscribe
from fedlp_edge.transport.base import Connected, Received, Refused
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.wire.messages import encode
from tests.device_agent.support import BROKER_LIMITS, TOPICS, Device, announcement
from tests.transport.clients import connected


@pytest.fixture(scope="module", params=["site/", "site/7/"])
def urls(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Of a listener without a mount point, and of one with."""
    port = free_port()
    with MosquittoBroker(extra=[f"listener {port} 127.0.0.1", f"mount_point {request.param}"]) as broker:
        yield broker.url, f"mqtt://127.0.0.1:{port}"


def warnings(effects: Effects) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Log) and effect.warning]


def searching() -> tuple[Device, Effects]:
    """A device that has heard nobody for long enough, and what it does about that."""
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    return device, device.handle(Tick(), now=60.0)


def test_device_says_in_one_line_that_nobody_is_there_and_looks_under_other_names() -> None:
    _, effects = searching()

    (line,) = warnings(effects)
    assert line.startswith('no coordinator of fleet "demo" has been heard of at this broker')
    filters = [effect.topic for effect in effects if isinstance(effect, Subscribe)]
    assert filters[-2:] == ["+/fedlp/demo/coordinator", "+/+/fedlp/demo/coordinator"]


def test_device_names_what_the_broker_calls_the_coordinator(urls: tuple[str, str]) -> None:
    device, effects = searching()
    with connected(urls[1], "coordinator") as coordinator, connected(urls[0], "device") as own:
        for effect in effects:
            if isinstance(effect, Subscribe):
                own.subscribe(effect.topic)
        coordinator.transport.publish(TOPICS.coordinator, encode(announcement()))
        heard = own.wait(Received)

    (line,) = warnings(device.handle(heard, now=61.0))
    assert f"this broker renames topics: fedlp/demo/coordinator is called {heard.topic} here" in line
    assert "mount_point" in line
    assert device.handle(heard, now=61.0) == []


def test_coordinator_names_what_the_broker_calls_a_device(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with connected(urls[0], "coordinator") as own, connected(urls[1], "device") as device:
        lookout = DeviceSearch(TOPICS, own.transport, now=0.0)
        lookout.tick(LIMITS.search_seconds, alone=True)
        device.transport.publish(TOPICS.of("device", "pi"), b"here", retain=True)
        heard = own.wait(Received)
        lookout.unexpected_topic(heard.topic)
        lookout.end()

    (line,) = [record.getMessage() for record in caplog.records if record.name == "fedlp.coordinator"]
    assert f"this broker renames topics: fedlp/demo/device/pi is called {heard.topic} here" in line


def test_search_ends_where_a_coordinator_is_heard_and_a_refusal_of_it_is_nothing() -> None:
    device, _ = searching()

    assert device.handle(Refused("+/fedlp/demo/coordinator", "Not authorized")) == []
    effects = device.handle(Received(TOPICS.coordinator, encode(announcement()), retained=True))
    ended = [effect.topic for effect in effects if isinstance(effect, Unsubscribe)]
    assert ended == ["+/fedlp/demo/coordinator", "+/+/fedlp/demo/coordinator"]
    assert not warnings(device.handle(Tick(), now=120.0))
