"""The MQTT transport over real brokers; what holds for both brokers is run on both."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import Connected, Delivered, Disconnected, LastWill, Received, Refused, Subscribed
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.transport.clients import Client, connected

VICTIM = """
import sys, threading
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.address import BrokerAddress
MqttTransport(BrokerAddress.parse(sys.argv[1]), "victim", LastWill(sys.argv[2], b"gone")).start(lambda event: None)
print("connected", flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(params=["mosquitto", "embedded"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).url)


def topic(request: pytest.FixtureRequest, leaf: str) -> str:
    """A topic that no other test uses."""
    return f"test/{request.node.name.replace('[', '-').replace(']', '')}/{leaf}"


def test_connects_with_mqtt_5_and_learns_the_limits_of_mosquitto(mosquitto: MosquittoBroker) -> None:
    client = Client(BrokerAddress.parse(mosquitto.url, {}), "limits").start()
    limits = client.wait(Connected).limits
    client.transport.stop()

    assert (limits.protocol, limits.receive_maximum) == ("5", 20)
    assert limits.max_packet_bytes in (None, 2_000_000)  # the latter from 2.1 on


@pytest.mark.parametrize("will", [None, LastWill("test/fallback/status", b"{}")])
def test_falls_back_to_mqtt_311_where_the_broker_speaks_no_better(
    embedded: EmbeddedBroker, will: LastWill | None
) -> None:
    client = Client(BrokerAddress.parse(embedded.url, {}), "fallback", will).start()
    limits = client.wait(Connected).limits
    client.transport.stop()

    assert (limits.protocol, limits.max_packet_bytes) == ("3.1.1", None)


def test_subscriptions_made_before_start_are_confirmed_before_connected(url: str) -> None:
    client = Client(BrokerAddress.parse(url, {}), "early")
    topics = [f"test/early/{n}" for n in range(20)]
    for name in topics:
        client.transport.subscribe(name)
    client.start()
    confirmed = [client.wait(Subscribed).topic for _ in topics]
    client.wait(Connected)
    client.transport.stop()

    assert confirmed == topics


def test_publishes_arrive_in_order_and_every_token_is_delivered_once(url: str, request: pytest.FixtureRequest) -> None:
    name = topic(request, "x")
    with connected(url, "order-a") as reader, connected(url, "order-b") as writer:
        reader.subscribe(name)
        tokens = [writer.transport.publish(name, str(n).encode()) for n in range(300)]

        assert reader.payloads(300) == [str(n).encode() for n in range(300)]
        assert sorted(writer.wait(Delivered).token for _ in tokens) == tokens


def test_publish_from_many_threads_loses_nothing(url: str, request: pytest.FixtureRequest) -> None:
    name = topic(request, "x")
    with connected(url, "threads-a") as reader, connected(url, "threads-b") as writer:
        reader.subscribe(name)

        def publish(thread: int) -> None:
            for n in range(50):
                writer.transport.publish(name, f"{thread}-{n}".encode())

        threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(reader.payloads(200)) == {f"{t}-{n}".encode() for t in range(4) for n in range(50)}


def test_packets_of_nearly_two_megabytes_pass(url: str, request: pytest.FixtureRequest) -> None:
    name = topic(request, "x")
    payload = bytes(range(256)) * 7500
    with connected(url, "large-a") as reader, connected(url, "large-b") as writer:
        reader.subscribe(name)
        for _ in range(3):
            writer.transport.publish(name, payload)

        assert all(received == payload for received in reader.payloads(3))


def test_retained_message_reaches_a_later_subscriber(url: str, request: pytest.FixtureRequest) -> None:
    name = topic(request, "x")
    with connected(url, "retain-a") as writer:
        token = writer.transport.publish(name, b"kept", retain=True)
        writer.wait(Delivered, lambda event: event.token == token)
        with connected(url, "retain-b") as reader:
            reader.subscribe(name)
            assert reader.wait(Received) == Received(name, b"kept", retained=True)
            writer.transport.publish(name, b"live", retain=True)
            assert reader.wait(Received) == Received(name, b"live", retained=False)


def test_unsubscribe_ends_the_messages(url: str, request: pytest.FixtureRequest) -> None:
    first, second = topic(request, "1"), topic(request, "2")
    with connected(url, "unsub") as client:
        client.subscribe(first)
        client.transport.unsubscribe(first)
        client.subscribe(second)
        client.transport.publish(first, b"unheard")
        client.transport.publish(second, b"heard")

        assert client.wait(Received).topic == second


def test_will_is_published_when_the_client_is_killed_but_not_after_stop(
    url: str, request: pytest.FixtureRequest
) -> None:
    killed, polite = topic(request, "killed"), topic(request, "polite")
    with connected(url, "will-watcher") as watcher:
        watcher.subscribe(killed)
        watcher.subscribe(polite)
        with connected(url, "will-polite", LastWill(polite, b"gone")):
            pass
        with subprocess.Popen([sys.executable, "-c", VICTIM, url, killed], stdout=subprocess.PIPE) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            victim.kill()

        assert watcher.wait(Received) == Received(killed, b"gone", retained=False)


def test_stop_sends_what_is_queued(mosquitto: MosquittoBroker, request: pytest.FixtureRequest) -> None:
    name = topic(request, "x")
    with connected(mosquitto.url, "drain-a") as reader:
        reader.subscribe(name)
        with connected(mosquitto.url, "drain-b") as writer:
            for _ in range(200):
                writer.transport.publish(name, bytes(10_000))

        assert len(reader.payloads(200)) == 200


def test_broker_restart_is_survived_with_subscriptions_and_unsent_messages() -> None:
    with (
        MosquittoBroker() as broker,
        connected(broker.url, "back-a") as reader,
        connected(broker.url, "back-b") as writer,
    ):
        reader.subscribe("x")
        broker.kill()
        reader.wait(Disconnected)
        writer.wait(Disconnected)
        tokens = [writer.transport.publish("x", str(n).encode(), retain=True) for n in range(100)]
        reader.transport.subscribe("y")
        broker.start()

        reader.wait(Subscribed, lambda event: event.topic == "x")
        reader.wait(Subscribed, lambda event: event.topic == "y")
        assert [writer.wait(Delivered).token for _ in tokens] == tokens
        # The broker keeps the last one, whenever the reader came back.
        reader.wait(Received, lambda event: event.payload == b"99")


def test_window_keeps_to_the_receive_maximum_after_a_reconnect_too() -> None:
    """Hundreds of messages wait when the broker comes back; it allows three at a time and must not object."""
    with MosquittoBroker(extra=["max_inflight_messages 3"]) as broker, connected(broker.url, "narrow") as client:
        broker.kill()
        client.wait(Disconnected)
        tokens = [client.transport.publish("x", b"1") for _ in range(300)]
        broker.start()

        assert client.wait(Connected).limits.receive_maximum == 3
        assert [client.wait(Delivered).token for _ in tokens] == tokens


def test_message_over_the_brokers_limit_is_refused_and_the_next_one_passes() -> None:
    with MosquittoBroker(extra=["max_packet_size 5000"]) as broker:
        client = Client(BrokerAddress.parse(broker.url, {}), "limit").start()
        assert client.wait(Connected).limits.max_packet_bytes == 5000
        large = client.transport.publish("x", bytes(5000))
        small = client.transport.publish("x", bytes(4900))

        refused = client.wait(Refused)
        assert (refused.topic, refused.token, refused.too_long) == ("x", large, True)
        assert "over the broker's packet limit of 5000" in refused.reason
        assert client.wait(Delivered).token == small
        client.transport.stop()


def test_configured_limit_counts_where_the_broker_announces_none(mosquitto: MosquittoBroker) -> None:
    address = BrokerAddress("127.0.0.1", mosquitto.port, max_packet_bytes=4096)
    client = Client(address, "preset").start()
    assert client.wait(Connected).limits.max_packet_bytes == 4096
    client.transport.stop()


@pytest.mark.parametrize("bad", ["", "a/+", "a/#"])
def test_publish_refuses_what_is_no_topic(bad: str) -> None:
    transport = MqttTransport(BrokerAddress("127.0.0.1", 1), "never")
    with pytest.raises(ValueError, match="no topic"):
        transport.publish(bad, b"")
    transport.stop()


def test_listener_without_qos_1_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with MosquittoBroker(extra=["max_qos 0"]) as broker:
        address = BrokerAddress.parse(broker.url, {})
        with pytest.raises(BrokerError, match=r"allows no QoS 1 \(Mosquitto's max_qos\), which fleets need"):
            Client(address, "newer").start()
        client = Client(dataclasses.replace(address, protocol="3.1.1"), "older")
        client.transport.subscribe("t")
        client.start().wait(Connected)
        client.transport.stop()
    assert "grants QoS 0 for t, where QoS 1 was requested" in caplog.text
