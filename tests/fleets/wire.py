"""A slow wire between a service and the broker in memory, in virtual time: it loses nothing, and keeps the order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fedlp_edge.transport.base import Delivered, Received, Sink, TransportEvent
from fedlp_edge.transport.in_memory import MemoryTransport

PACKET_BYTES = 20
"""Of MQTT's own, and of those below it: a little for each packet."""


class Time(Protocol):
    """What a wire needs of the world."""

    now: float

    def after(self, seconds: float, action: Callable[[], None]) -> None: ...


@dataclass
class Wire:
    """One link.

    Attributes:
        up: bytes per second to the broker.
        down: bytes per second from it.
        latency: seconds, one way.
        pauses: from when to when nothing moves.
        carried: payload bytes from the broker, by topic.
        sent: payload bytes to it, likewise.
    """

    up: float
    down: float
    latency: float = 0.0
    pauses: tuple[tuple[float, float], ...] = ()
    carried: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    def bytes_down(self, branch: str) -> int:
        """Of chunks on topics such as ``model``."""
        return sum(nbytes for topic, nbytes in self.carried.items() if topic.split("/")[2] == branch)

    def bytes_up(self, branch: str) -> int:
        return sum(nbytes for topic, nbytes in self.sent.items() if topic.split("/")[2] == branch)

    def over(self, begin: float, nbytes: int, rate: float) -> float:
        """When so many bytes are through that begin to be carried now."""
        end = begin + nbytes / rate
        for start, stop in self.pauses:
            if begin < stop and end > start:
                end += stop - max(start, begin)
        return end


class SlowTransport:
    """A ``Transport`` over a wire to the hub."""

    def __init__(self, time: Time, inner: MemoryTransport, wire: Wire) -> None:
        self.inner = inner
        self.sink: Sink = lambda _: None
        self._time = time
        self._wire = wire
        self._up_free = self._down_free = 0.0
        self._tokens = itertools.count(1)
        self._outer: dict[int, int] = {}

    def start(self, sink: Sink) -> None:
        self.sink = sink
        self.inner.start(self._arrive)

    def subscribe(self, topic: str) -> None:
        self._up(len(topic), lambda: self.inner.subscribe(topic))

    def unsubscribe(self, topic: str) -> None:
        self._up(len(topic), lambda: self.inner.unsubscribe(topic))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        token = next(self._tokens)
        self._wire.sent[topic] = self._wire.sent.get(topic, 0) + len(payload)

        def there() -> None:
            self._outer[self.inner.publish(topic, payload, retain=retain)] = token

        self._up(len(topic) + len(payload), there)
        return token

    def stop(self) -> None:
        self.inner.stop()

    def _up(self, nbytes: int, there: Callable[[], None]) -> None:
        wire, now = self._wire, self._time.now
        self._up_free = wire.over(max(now, self._up_free), nbytes + PACKET_BYTES, wire.up)
        self._time.after(self._up_free + wire.latency - now, there)

    def _arrive(self, event: TransportEvent) -> None:
        nbytes = PACKET_BYTES
        if isinstance(event, Received):
            nbytes += len(event.topic) + len(event.payload)
            self._wire.carried[event.topic] = self._wire.carried.get(event.topic, 0) + len(event.payload)
        wire, now = self._wire, self._time.now
        self._down_free = wire.over(max(now, self._down_free), nbytes, wire.down)
        self._time.after(self._down_free + wire.latency - now, lambda: self.sink(self._told(event)))

    def _told(self, event: TransportEvent) -> TransportEvent:
        return Delivered(self._outer.pop(event.token)) if isinstance(event, Delivered) else event
