"""Helpers for tests over real brokers: a transport with its events, and waiting for one of them."""

from __future__ import annotations

import base64
import hashlib
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import Connected, LastWill, Received, Subscribed, TransportEvent
from fedlp_edge.transport.mqtt.transport import MqttTransport

PATIENCE = 60.0
"""Seconds until a test gives up on an event; reached only when it fails."""

Event = TypeVar("Event", bound=TransportEvent)


class Client:
    """A transport and the queue of its events."""

    def __init__(self, address: BrokerAddress, client_id: str, will: LastWill | None = None) -> None:
        self.transport = MqttTransport(address, client_id, will)
        self.events: queue.Queue[TransportEvent] = queue.Queue()

    def start(self) -> Self:
        self.transport.start(self.events.put)
        return self

    def wait(self, kind: type[Event], accept: Callable[[Event], bool] = lambda _: True) -> Event:
        """The next event of this kind that is accepted; what comes before it is dropped."""
        while True:
            event = self.events.get(timeout=PATIENCE)
            if isinstance(event, kind) and accept(event):
                return event

    def subscribe(self, topic: str) -> None:
        self.transport.subscribe(topic)
        self.wait(Subscribed, lambda event: event.topic == topic)

    def payloads(self, count: int) -> list[bytes]:
        """Of the next messages."""
        return [self.wait(Received).payload for _ in range(count)]


@contextmanager
def connected(url: str | BrokerAddress, client_id: str, will: LastWill | None = None) -> Iterator[Client]:
    """A client that is connected, and stopped at the end."""
    address = BrokerAddress.parse(url, {}) if isinstance(url, str) else url
    client = Client(address, client_id, will).start()
    try:
        client.wait(Connected)
        yield client
    finally:
        client.transport.stop()


def password_entry(user: str, password: str) -> str:
    """A line of Mosquitto's password file, as mosquitto_passwd writes it (which is in another package)."""
    salt = b"saltsaltsalt"
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101, 64)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n"
