"""This module has an MQTT-like broker and its clients in one process, for deterministic tests of whole fleets.

It behaves as an MQTT broker does where the protocol above depends on it: retained messages, last wills,
take-over of a client id, clean sessions, and acknowledgements that do not depend on any subscriber. It needs no
threads and no sleep. Faults are rules on topics and payloads, so a test can lose exactly the third chunk of one update.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.base import (
    BrokerLimits,
    Connected,
    Delivered,
    Disconnected,
    LastWill,
    Received,
    Sink,
    Subscribed,
    TransportEvent,
)

MEMORY_LIMITS = BrokerLimits(protocol="memory", max_packet_bytes=None, receive_maximum=65535)


@lru_cache(maxsize=4096)
def topic_matches(pattern: str, topic: str) -> bool:
    """Returns whether a topic matches a filter with ``+`` and ``#``."""
    wanted, given = pattern.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(given) or level not in {"+", given[position]}:
            return False
    return len(wanted) == len(given)


@dataclass
class InjectedFault:
    """A rule that drops, duplicates or delays messages to a client; the publisher gets its Delivered all the same.

    Attributes:
        matches: Function of topic and payload that returns whether the rule applies to a message.
        action: ``drop`` loses the message, ``duplicate`` delivers it twice, ``delay`` holds it until
            ``MemoryHub.release``, so that later messages overtake it.
        times: Number of messages that the rule applies to; None for any number.
        receiver: Client id of the subscriber whose messages the rule applies to; None for all subscribers.
    """

    matches: Callable[[str, bytes], bool]
    action: Literal["drop", "duplicate", "delay"]
    times: int | None = None
    receiver: str | None = None


class MemoryHub:
    """The broker in memory, which queues events for its clients until ``deliver`` is called.

    Args:
        immediate: Whether events are delivered within the call that causes them; otherwise ``deliver`` does it.
        limits: Limits that clients receive on connecting.

    Attributes:
        faults: Rules, of which the first that matches applies; tests may change the list at any time.
        retained: Retained payloads by topic.
    """

    def __init__(self, *, immediate: bool = False, limits: BrokerLimits = MEMORY_LIMITS) -> None:
        self.faults: list[InjectedFault] = []
        self.retained: dict[str, bytes] = {}
        self._immediate = immediate
        self._limits = limits
        self._clients: dict[str, MemoryTransport] = {}
        self._events: deque[tuple[MemoryTransport, TransportEvent]] = deque()
        self._held: list[tuple[MemoryTransport, TransportEvent]] = []
        self._delivering = False
        self._lock = threading.RLock()
        self._open = True

    def transport(self, client_id: str, will: LastWill | None = None) -> MemoryTransport:
        """Makes a client that is not connected yet."""
        return MemoryTransport(self, client_id, will)

    def deliver(self, at_most: int | None = None) -> int:
        """Delivers waiting events in order, and those that they cause; returns their number.

        Args:
            at_most: Number of events after which to stop; None for no limit.
        """
        with self._lock:
            if self._delivering:  # called from a sink: the outer call goes on
                return 0
            self._delivering = True
            count = 0
            try:
                while self._events and (at_most is None or count < at_most):
                    client, event = self._events.popleft()
                    if isinstance(event, Delivered):
                        client.unacknowledged.pop(event.token, None)
                    client.sink(event)
                    count += 1
            finally:
                self._delivering = False
            return count

    def release(self) -> int:
        """Appends the messages that ``delay`` holds to the waiting events; returns their number."""
        with self._lock:
            count = len(self._held)
            self._events.extend(self._held)
            self._held.clear()
            self._settle()
            return count

    def drop(self, client_id: str, reason: str = "the connection was lost") -> None:
        """Cuts a client's connection until ``reconnect`` and publishes the client's last will.

        Raises:
            KeyError: The client is not connected.
        """
        with self._lock:
            client = self._clients.pop(client_id, None)
            if client is None:
                raise KeyError(f"{client_id} is not connected")
            self._cut(client, reason)
            self._settle()

    def kill(self, client_id: str) -> None:
        """Ends a client as kill -9 would: its last will is published, and it receives no more events."""
        with self._lock:
            client = self._clients.pop(client_id)
            self._forget(client)
            self._route_will(client)
            self._settle()

    def reconnect(self, client: MemoryTransport) -> None:
        """Reconnects a dropped client: subscriptions, Connected, then the publishes that were not acknowledged.

        Raises:
            BrokerError: The broker is down.
        """
        with self._lock:
            if not self._open:
                raise BrokerError("nothing listens: the broker in memory is down")
            if (other := self._clients.get(client.client_id)) is not None and other is not client:
                self._cut(other, "another client with the same id took over")
            self._clients[client.client_id] = client
            for topic in client.topics:
                self.subscribed(client, topic)
            self._events.append((client, Connected(self._limits)))
            waiting, client.unacknowledged = client.unacknowledged, {}
            for token, (topic, payload, retain) in waiting.items():
                self.publish(client, token, topic, payload, retain)
            self._settle()

    def shut_down(self) -> None:
        """Ends the broker as a crash would: retained messages are lost, and no last will is published."""
        with self._lock:
            self._open = False
            self.retained.clear()
            for client in self._clients.values():
                self._forget(client)
                self._events.append((client, Disconnected("the connection was lost")))
            self._clients.clear()
            self._settle()

    def start_again(self) -> None:
        """Accepts connections again after ``shut_down``."""
        self._open = True

    # The methods from here on are called by MemoryTransport alone.

    def subscribed(self, client: MemoryTransport, topic: str) -> None:
        """Confirms a subscription and delivers the retained messages that match it."""
        with self._lock:
            if self._clients.get(client.client_id) is not client:
                return
            self._events.append((client, Subscribed(topic)))
            for name, payload in self.retained.items():
                if topic_matches(topic, name):
                    self._hand(client, Received(name, payload, retained=True))
            self._settle()

    def publish(self, client: MemoryTransport, token: int, topic: str, payload: bytes, retain: bool) -> None:
        """Accepts a publish; the client keeps it until its Delivered event, and sends it again if that never comes."""
        with self._lock:
            client.unacknowledged[token] = (topic, payload, retain)
            if self._clients.get(client.client_id) is not client:
                return
            self._events.append((client, Delivered(token)))
            self._route(topic, payload, retain)
            self._settle()

    def disconnect(self, client: MemoryTransport) -> None:
        """Disconnects a client cleanly, so that its last will is not published."""
        with self._lock:
            if self._clients.get(client.client_id) is client:
                del self._clients[client.client_id]
            self._forget(client)

    def _route(self, topic: str, payload: bytes, retain: bool) -> None:
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for client in self._clients.values():
            if any(topic_matches(pattern, topic) for pattern in client.topics):
                self._hand(client, Received(topic, payload, retained=False))

    def _route_will(self, client: MemoryTransport) -> None:
        if client.will is not None:
            self._route(client.will.topic, client.will.payload, retain=True)

    def _hand(self, client: MemoryTransport, message: Received) -> None:
        match self._fault(client.client_id, message):
            case "drop":
                pass
            case "delay":
                self._held.append((client, message))
            case "duplicate":
                self._events.extend(((client, message), (client, message)))
            case None:
                self._events.append((client, message))

    def _fault(self, receiver: str, message: Received) -> str | None:
        for fault in self.faults:
            if fault.times == 0 or fault.receiver not in {None, receiver}:
                continue
            if fault.matches(message.topic, message.payload):
                if fault.times is not None:
                    fault.times -= 1
                return fault.action
        return None

    def _cut(self, client: MemoryTransport, reason: str) -> None:
        self._forget(client)
        self._events.append((client, Disconnected(reason)))
        self._route_will(client)

    def _forget(self, client: MemoryTransport) -> None:
        """Drops the waiting events of a client; a clean session does not bring them back."""
        self._events = deque(entry for entry in self._events if entry[0] is not client)
        self._held = [entry for entry in self._held if entry[0] is not client]

    def _settle(self) -> None:
        if self._immediate:
            self.deliver()


class MemoryTransport:
    """A ``Transport`` to a ``MemoryHub``.

    Args:
        hub: Broker in memory.
        client_id: Client id, unique among the clients of the broker.
        will: Last will, published when the hub drops the client.
    """

    def __init__(self, hub: MemoryHub, client_id: str, will: LastWill | None = None) -> None:
        self.client_id = client_id
        self.will = will
        self.topics: dict[str, None] = {}
        self.unacknowledged: dict[int, tuple[str, bytes, bool]] = {}
        self.sink: Sink = lambda _: None
        self._hub = hub
        self._tokens = itertools.count(1)

    def start(self, sink: Sink) -> None:
        """Connects, as ``Transport.start`` says.

        Raises:
            BrokerError: The broker is down.
        """
        self.sink = sink
        self._hub.reconnect(self)

    def subscribe(self, topic: str) -> None:
        """Subscribes at QoS 1, as ``Transport.subscribe`` says."""
        self.topics[topic] = None
        self._hub.subscribed(self, topic)

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""
        self.topics.pop(topic, None)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Queues one publish, as ``Transport.publish`` says; returns its token."""
        token = next(self._tokens)
        self._hub.publish(self, token, topic, payload, retain)
        return token

    def stop(self) -> None:
        """Disconnects cleanly, as ``Transport.stop`` says."""
        self._hub.disconnect(self)
