from __future__ import annotations

import socket
import threading

import pytest

from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.transport.mqtt.broker_limits import limits_of, narrowed, speaks_only_older


def limits(settings: BrokerSettings, packet: int | None = None, receive: int | None = None) -> BrokerLimits:
    return limits_of(settings.address({}), "5", packet, receive)


def test_preset_fills_in_what_is_not_announced() -> None:
    assert limits(BrokerSettings(preset="emqx")) == BrokerLimits("5", 1 << 20, 32, 1000)
    assert limits(BrokerSettings()) == BrokerLimits("5", None, 65535, 1000)


def test_what_is_announced_wins_over_the_preset() -> None:
    assert limits(BrokerSettings(preset="emqx"), 2 << 20, 64) == BrokerLimits("5", 2 << 20, 64, 1000)


def test_what_is_configured_wins_over_the_preset() -> None:
    settings = BrokerSettings(preset="emqx", max_packet_bytes=4 << 20, max_queued_messages=50)

    assert limits(settings) == BrokerLimits("5", 4 << 20, 32, 50)


def test_what_is_configured_never_exceeds_what_is_announced() -> None:
    assert limits(BrokerSettings(max_packet_bytes=4 << 20), 100_000).max_packet_bytes == 100_000
    assert limits(BrokerSettings(max_packet_bytes=50_000), 100_000).max_packet_bytes == 50_000


def test_zero_queued_messages_means_any_number() -> None:
    assert limits(BrokerSettings(max_queued_messages=0)).max_queued_messages is None


def test_narrows_packets_and_never_widens_them() -> None:
    wide, none = BrokerLimits("5", 1000, 32), BrokerLimits("5", None, 32)

    assert [narrowed(wide, packet).max_packet_bytes for packet in (None, 999, 1001)] == [1000, 999, 1000]
    assert [narrowed(none, packet).max_packet_bytes for packet in (None, 999)] == [None, 999]
    assert narrowed(wide, 999) == BrokerLimits("5", 999, 32)


@pytest.mark.parametrize(
    ("answer", "older"),
    [
        (b"\x20\x02\x00\x01", True),  # a CONNACK of MQTT 3.1.1: unacceptable protocol version
        (b"\x20\x03\x00\x84\x00", False),  # a CONNACK of MQTT 5
        (b"", False),
    ],
)
def test_knows_a_broker_that_answers_in_the_older_format(answer: bytes, older: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def answer_once() -> None:
            with server.accept()[0] as client:
                heard.append(client.recv(100))
                client.sendall(answer)

        broker = threading.Thread(target=answer_once)
        broker.start()
        address = BrokerSettings(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}").address({})
        assert speaks_only_older(address, None) is older
        broker.join()
    assert heard == [b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"]


def test_broker_that_is_not_there_does_not_speak_the_older_version() -> None:
    address = BrokerSettings(url=f"mqtt://127.0.0.1:{free_port()}").address({})

    assert not speaks_only_older(address, None)
