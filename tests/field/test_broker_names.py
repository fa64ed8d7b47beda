"""Names with dots, which some brokers rewrite and some refuse in topics."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedlp_edge.transport.base import Received
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.wire.topics import Topics
from tests.fleets.fleet import NO_EXPORT, Fleet
from tests.fleets.proxy import packets, publish_parts
from tests.transport.clients import connected
from tests.transport.nats import NatsBroker

NAMES = ("site.a.cam-1", "site.a.cam_2")


@contextmanager
def rewriting(port: int) -> Iterator[str]:
    """A proxy before a broker that delivers dots in topics as slashes, as RabbitMQ does; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                broker = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=_relay, args=(client, broker, False), daemon=True).start()
                threading.Thread(target=_relay, args=(broker, client, True), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"mqtt://127.0.0.1:{server.getsockname()[1]}"


def _relay(source: socket.socket, target: socket.socket, rewrite: bool) -> None:
    with contextlib.suppress(OSError):  # whichever side ends first closes the sockets of both
        for packet in packets(source):
            if rewrite and packet[0] >> 4 == 3:
                topic, _ = publish_parts(packet, 4)
                target.sendall(packet.replace(topic.encode(), topic.replace(".", "/").encode(), 1))
            else:
                target.sendall(packet)
    target.close()


def a_round(directory: Path, url: str) -> None:
    """A fleet in which every name has dots does a round, and nobody is missing."""
    with Fleet(directory, url, "plant.7", devices=2, rounds=1, more=NO_EXPORT) as fleet:
        fleet.start_coordinator()
        for number, name in enumerate(NAMES):
            fleet.start_device(number, "--id", name)
        summary = fleet.finish()
    assert [(device.id, device.status) for device in summary.rounds[0].devices] == [
        (name, "contributed") for name in NAMES
    ]


def test_message_under_a_name_with_dots_arrives_where_dots_are_rewritten() -> None:
    topics = Topics("plant.7")
    with MosquittoBroker() as broker, rewriting(broker.port) as url, connected(url, "a") as client:
        client.subscribe(topics.of("up", "+"))
        client.transport.publish(topics.of("up", NAMES[0]), b"x")

        assert topics.parse(client.wait(Received).topic) == ("up", NAMES[0])


@pytest.mark.system
def test_fleet_with_dots_in_all_names_works_where_dots_end_the_connection(tmp_path: Path) -> None:
    with NatsBroker() as broker:
        a_round(tmp_path, broker.url)
