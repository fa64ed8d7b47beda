"""When an agent ends that waits for a coordinator for a limited time only."""

from __future__ import annotations

from device_agent.protocol.events import DeviceMeasured, Effects, Stop, Tick
from fedlp_edge.transport.base import Connected, Disconnected
from tests.device_agent.support import BROKER_LIMITS, FACTS, TOPICS, Device, announcement, assignment, train, trained


def ends(effects: Effects) -> bool:
    stops = [effect for effect in effects if isinstance(effect, Stop)]
    assert all(stop.no_coordinator and "--wait" in str(stop.error) for stop in stops)
    return bool(stops)


def waiting() -> Device:
    """An agent that has connected at 100 seconds and hears that the last coordinator has ended."""
    device = Device(once=True, wait_seconds=30.0)
    device.handle(Connected(BROKER_LIMITS), 100.0)
    device.handle(DeviceMeasured(FACTS), 101.0)
    device.receive(TOPICS.coordinator, announcement(online=False), 102.0, retained=True)
    return device


def test_ends_where_no_coordinator_comes() -> None:
    device = waiting()
    wakeup = device.machine.next_wakeup()
    assert wakeup is not None
    assert wakeup <= 130.0
    assert not ends(device.handle(Tick(), 129.0))
    assert ends(device.handle(Tick(), 130.0))


def test_waits_for_ever_unless_told_otherwise() -> None:
    device = Device(once=True)
    device.handle(Connected(BROKER_LIMITS), 100.0)
    assert not ends(device.handle(Tick(), 1e6))


def test_counts_anew_from_when_the_coordinator_or_the_broker_went_away() -> None:
    device = waiting()
    device.receive(TOPICS.coordinator, announcement(), 125.0)
    device.down(assignment(), 125.0)
    assert not ends(device.handle(Tick(), 900.0))
    device.receive(TOPICS.coordinator, announcement(online=False), 1000.0)
    assert not ends(device.handle(Tick(), 1029.0))
    device.receive(TOPICS.coordinator, announcement(), 1029.5)
    device.handle(Disconnected("closed"), 2000.0)
    assert device.machine.next_wakeup() == 2030.0
    assert ends(device.handle(Tick(), 2030.0))


def test_an_announcement_that_the_broker_kept_by_mistake_is_no_coordinator() -> None:
    device = waiting()
    device.receive(TOPICS.coordinator, announcement(), 103.0, retained=True)
    assert not ends(device.handle(Tick(), 129.0))
    assert ends(device.handle(Tick(), 130.0))


def test_finishes_what_it_trains() -> None:
    device = Device(once=True, wait_seconds=30.0).join()
    train(device)
    device.receive(TOPICS.coordinator, announcement(online=False), 10.0)
    assert not ends(device.handle(Tick(), 1000.0))
    trained(device, now=1001.0)
    assert not ends(device.handle(Tick(), 1030.0))
    assert ends(device.handle(Tick(), 1031.0))
