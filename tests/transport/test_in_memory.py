"""The broker in memory behaves as MQTT brokers do where fleets depend on it."""

from __future__ import annotations

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.base import Connected, Delivered, Disconnected, LastWill, Received, Subscribed, TransportEvent
from fedlp_edge.transport.in_memory import MEMORY_LIMITS, InjectedFault, MemoryHub, MemoryTransport, topic_matches


def connect(
    hub: MemoryHub, client_id: str, *topics: str, will: LastWill | None = None
) -> tuple[MemoryTransport, list[TransportEvent]]:
    """A connected client and its events from here on."""
    events: list[TransportEvent] = []
    client = hub.transport(client_id, will)
    client.start(events.append)
    for topic in topics:
        client.subscribe(topic)
    hub.deliver()
    events.clear()
    return client, events


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/b/c", "a/b", False),
    ],
)
def test_topic_matches_as_mqtt_does(pattern: str, topic: str, matches: bool) -> None:
    assert topic_matches(pattern, topic) is matches


def test_start_reports_connected_then_subscribed() -> None:
    hub = MemoryHub()
    events: list[TransportEvent] = []
    client = hub.transport("a")
    client.start(events.append)
    client.subscribe("x")

    assert events == []
    assert hub.deliver() == 2
    assert events == [Connected(MEMORY_LIMITS), Subscribed("x")]


def test_publish_reaches_subscribers_and_is_acknowledged() -> None:
    hub = MemoryHub()
    _, heard = connect(hub, "a", "x/+")
    sender, acknowledged = connect(hub, "b")

    token = sender.publish("x/1", b"hello")
    hub.deliver()

    assert heard == [Received("x/1", b"hello", retained=False)]
    assert acknowledged == [Delivered(token)]


def test_deliver_stops_after_the_number_asked_for() -> None:
    hub = MemoryHub()
    _, heard = connect(hub, "a", "x")
    sender, _ = connect(hub, "b")
    sender.publish("x", b"1")
    sender.publish("x", b"2")

    assert hub.deliver(at_most=2) == 2  # the acknowledgement and the message of the first
    assert heard == [Received("x", b"1", retained=False)]


def test_immediate_hub_delivers_what_a_sink_causes_after_the_event_itself() -> None:
    hub = MemoryHub(immediate=True)
    order: list[str] = []
    echo = hub.transport("echo")

    def answer(event: TransportEvent) -> None:
        if isinstance(event, Received):
            echo.publish("pong", b"")
            order.append("heard ping")

    echo.start(answer)
    echo.subscribe("ping")
    caller = hub.transport("caller")
    caller.start(lambda event: order.append("heard pong") if isinstance(event, Received) else None)
    caller.subscribe("pong")
    caller.publish("ping", b"")

    assert order == ["heard ping", "heard pong"]


def test_retained_message_reaches_a_later_subscriber_until_it_is_cleared() -> None:
    hub = MemoryHub()
    sender, _ = connect(hub, "b")
    sender.publish("x", b"kept", retain=True)
    late, heard = connect(hub, "a")
    late.subscribe("x")
    hub.deliver()
    assert heard == [Subscribed("x"), Received("x", b"kept", retained=True)]

    sender.publish("x", b"", retain=True)
    assert hub.retained == {}


def test_drop_publishes_the_will_and_reconnect_resends_what_was_not_acknowledged() -> None:
    hub = MemoryHub()
    _, heard = connect(hub, "watcher", "status/a", "x")
    client, events = connect(hub, "a", "y", will=LastWill("status/a", b"gone"))
    sender, _ = connect(hub, "b")
    first = client.publish("x", b"1")  # the broker took it, but the connection ends before that is known
    sender.publish("y", b"lost: the session is clean")

    hub.drop("a")
    second = client.publish("x", b"2")
    hub.deliver()
    assert events == [Disconnected("the connection was lost")]
    assert hub.retained == {"status/a": b"gone"}

    hub.reconnect(client)
    hub.deliver()
    assert events[1:] == [Subscribed("y"), Connected(MEMORY_LIMITS), Delivered(first), Delivered(second)]
    assert [event.payload for event in heard if isinstance(event, Received)] == [b"1", b"gone", b"1", b"2"]


def test_kill_publishes_the_will_and_stop_does_not() -> None:
    hub = MemoryHub()
    connect(hub, "a", will=LastWill("status/a", b"gone"))
    polite, _ = connect(hub, "b", will=LastWill("status/b", b"gone"))
    hub.kill("a")
    polite.stop()

    assert hub.retained == {"status/a": b"gone"}


def test_second_client_of_one_id_takes_over() -> None:
    hub = MemoryHub()
    _, first = connect(hub, "a")
    connect(hub, "a")

    assert first == [Disconnected("another client with the same id took over")]


def test_shut_down_forgets_retained_messages_and_refuses_clients_until_started_again() -> None:
    hub = MemoryHub()
    client, events = connect(hub, "a")
    client.publish("x", b"kept", retain=True)
    hub.deliver()
    hub.shut_down()
    hub.deliver()
    assert isinstance(events[-1], Disconnected)
    assert hub.retained == {}
    with pytest.raises(BrokerError, match="down"):
        hub.reconnect(client)

    hub.start_again()
    hub.reconnect(client)
    hub.deliver()
    assert isinstance(events[-1], Connected)


def test_drop_fault_loses_one_message_for_one_receiver_though_it_is_acknowledged() -> None:
    hub = MemoryHub()
    _, unlucky = connect(hub, "a", "x")
    _, lucky = connect(hub, "b", "x")
    sender, acknowledged = connect(hub, "s")
    hub.faults.append(InjectedFault(lambda _topic, payload: payload == b"2", "drop", times=1, receiver="a"))
    for payload in (b"1", b"2", b"2"):
        sender.publish("x", payload)
    hub.deliver()

    assert [e.payload for e in unlucky if isinstance(e, Received)] == [b"1", b"2"]
    assert [e.payload for e in lucky if isinstance(e, Received)] == [b"1", b"2", b"2"]
    assert len(acknowledged) == 3


def test_duplicate_and_delay_faults_repeat_and_reorder() -> None:
    hub = MemoryHub()
    _, heard = connect(hub, "a", "x")
    sender, _ = connect(hub, "s")
    hub.faults = [
        InjectedFault(lambda _topic, payload: payload == b"late", "delay", times=1),
        InjectedFault(lambda _topic, payload: payload == b"twice", "duplicate"),
    ]
    for payload in (b"late", b"twice", b"last"):
        sender.publish("x", payload)
    hub.deliver()
    assert hub.release() == 1
    hub.deliver()

    assert [e.payload for e in heard if isinstance(e, Received)] == [b"twice", b"twice", b"last", b"late"]
