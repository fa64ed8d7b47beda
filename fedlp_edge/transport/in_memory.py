"""A broker and its clients in one process, for tests of whole fleets: deterministic, without threads or sleep.

It behaves as an MQTT broker does where the protocol above depends on it: retained messages, last wills,
take-over of a client id, clean sessions, and acknowledgements that say nothing of any reader. Faults are
rules on topics and payloads, so a test can lose exactly the third chunk of one update.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether a topic falls under a filter with ``+`` and ``#``."""
    wanted, given = pattern.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(given) or level not in {"+", given[position]}:
            return False
    return len(wanted) == len(given)


@dataclass
class InjectedFault:
    """A rule on messages that the broker hands to a client; the publisher's Delivered comes all the same.

    Attributes:
        matches: judges topic and payload.
        action: ``drop`` it, hand it over twice (``duplicate``), or hold it until ``MemoryHub.release``
            (``delay``), by which later messages overtake it.
        times: how often the rule applies; None for always.
        receiver: only messages to this client; None for all.
    """

    matches: Callable[[str, bytes], bool]
    action: Literal["drop", "duplicate", "delay"]
    times: int | None = None
    receiver: str | None = None


class MemoryHub:
    """The broker.

    Args:
        immediate: hand events over within the call that causes them; otherwise when ``deliver`` is called.
        limits: what clients are told on connecting.

    Attributes:
        faults: rules, of which the first that matches applies; tests change the list as they go.
        retained: payload by topic.
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
        """A client that is not connected yet."""
        return MemoryTransport(self, client_id, will)

    def deliver(self, at_most: int | None = None) -> int:
        """Hands over waiting events in order, and those that they cause; returns how many.

        Args:
            at_most: stop after so many.
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
        """Lets go of the messages that ``delay`` holds, behind all that wait; returns how many."""
        with self._lock:
            count = len(self._held)
            self._events.extend(self._held)
            self._held.clear()
            self._settle()
            return count

    def drop(self, client_id: str, reason: str = "the connection was lost") -> None:
        """Cuts a client's connection: its will is published; it stays away until ``reconnect``."""
        with self._lock:
            client = self._clients.pop(client_id, None)
            if client is None:
                raise KeyError(f"{client_id} is not connected")
            self._cut(client, reason)
            self._settle()

    def kill(self, client_id: str) -> None:
        """Ends a client as kill -9 would: its will is published, and it hears no more."""
        with self._lock:
            client = self._clients.pop(client_id)
            self._forget(client)
            self._route_will(client)
            self._settle()

    def reconnect(self, client: MemoryTransport) -> None:
        """Brings a client back that was dropped: subscriptions, Connected, then what was not delivered.

        Raises:
            BrokerError: the broker is down.
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
        """Ends the broker as a crash would: retained messages are gone, no wills, all clients lose it."""
        with self._lock:
            self._open = False
            self.retained.clear()
            for client in self._clients.values():
                self._forget(client)
                self._events.append((client, Disconnected("the connection was lost")))
            self._clients.clear()
            self._settle()

    def start_again(self) -> None:
        """Takes connections again after ``shut_down``."""
        self._open = True

    # For MemoryTransport.

    def subscribed(self, client: MemoryTransport, topic: str) -> None:
        """Confirms a subscription and hands over what is retained for it."""
        with self._lock:
            if self._clients.get(client.client_id) is not client:
                return
            self._events.append((client, Subscribed(topic)))
            for name, payload in self.retained.items():
                if topic_matches(topic, name):
                    self._hand(client, Received(name, payload, retained=True))
            self._settle()

    def publish(self, client: MemoryTransport, token: int, topic: str, payload: bytes, retain: bool) -> None:
        """Takes a publish; the client keeps it until Delivered is handed over, and sends it again if it is not."""
        with self._lock:
            client.unacknowledged[token] = (topic, payload, retain)
            if self._clients.get(client.client_id) is not client:
                return
            self._events.append((client, Delivered(token)))
            self._route(topic, payload, retain)
            self._settle()

    def goodbye(self, client: MemoryTransport) -> None:
        """A clean disconnect: no will."""
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
        """Drops what was on its way to a client; a clean session does not bring it back."""
        self._events = deque(entry for entry in self._events if entry[0] is not client)
        self._held = [entry for entry in self._held if entry[0] is not client]

    def _settle(self) -> None:
        if self._immediate:
            self.deliver()


class MemoryTransport:
    """A ``Transport`` to a ``MemoryHub``.

    Args:
        hub: the broker.
        client_id: must differ between all clients of the broker.
        will: published when the hub drops the client.
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
        """See ``Transport.start``.

        Raises:
            BrokerError: the broker is down.
        """
        self.sink = sink
        self._hub.reconnect(self)

    def subscribe(self, topic: str) -> None:
        """See ``Transport.subscribe``."""
        self.topics[topic] = None
        self._hub.subscribed(self, topic)

    def unsubscribe(self, topic: str) -> None:
        """See ``Transport.unsubscribe``."""
        self.topics.pop(topic, None)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """See ``Transport.publish``."""
        token = next(self._tokens)
        self._hub.publish(self, token, topic, payload, retain)
        return token

    def stop(self) -> None:
        """See ``Transport.stop``."""
        self._hub.goodbye(self)
