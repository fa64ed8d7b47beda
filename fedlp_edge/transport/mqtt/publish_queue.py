"""This module queues publishes and keeps the window of those that the broker has not acknowledged.

paho's own queue is not used: after a reconnect it sends everything at once, whatever the broker's Receive Maximum,
and its packet ids end at 65535.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 64
"""Largest number of unacknowledged publishes, if the broker allows that many."""

_PACKET_OVERHEAD = 16

WINDOW_BYTES = 8 * 1024 * 1024
"""Largest number of unacknowledged payload bytes; bounds the memory of paho's copies."""


@dataclass(frozen=True, slots=True)
class QueuedPublish:
    """One message to be published.

    Attributes:
        token: Number that identifies the publish to the caller.
        topic: Topic without wildcards.
        payload: Payload, not copied.
        retain: Whether the broker keeps the message for new subscribers.
    """

    token: int
    topic: str
    payload: bytes
    retain: bool

    @property
    def size(self) -> int:
        """Upper bound of the bytes of the MQTT packet."""
        return len(self.payload) + len(self.topic.encode()) + _PACKET_OVERHEAD


class PublishQueue:
    """A queue of publishes with a window; ``put`` may be called from any thread, the rest from one thread."""

    def __init__(self) -> None:
        self._waiting: deque[QueuedPublish] = deque()
        self._under_way: dict[int, QueuedPublish] = {}
        self._bytes = 0

    @property
    def idle(self) -> bool:
        """Whether the broker has acknowledged every publish."""
        return not self._waiting and not self._under_way

    def put(self, item: QueuedPublish) -> None:
        """Appends a publish to the queue."""
        self._waiting.append(item)

    def take(self, receive_maximum: int) -> QueuedPublish | None:
        """Returns the next publish that may be sent now, whose packet id goes to ``sent``; None if the window is full.

        Args:
            receive_maximum: Number of unacknowledged publishes that the broker allows.
        """
        room = len(self._under_way) < min(WINDOW, receive_maximum) and self._bytes < WINDOW_BYTES
        return self._waiting.popleft() if room and self._waiting else None

    def sent(self, packet_id: int, item: QueuedPublish) -> None:
        """Records a publish as sent; if its packet id is still in use, paho has not sent it, and it is queued again."""
        if packet_id in self._under_way:  # the 65535 ids wrapped around while one publish stayed unacknowledged
            self._waiting.appendleft(item)
            return
        self._under_way[packet_id] = item
        self._bytes += len(item.payload)

    def answered(self, packet_id: int) -> QueuedPublish | None:
        """Removes and returns the publish that was acknowledged under this packet id; None if there is none."""
        item = self._under_way.pop(packet_id, None)
        if item is not None:
            self._bytes -= len(item.payload)
        return item

    def longest(self) -> QueuedPublish | None:
        """Returns the largest unacknowledged publish; None if there is none."""
        return max(self._under_way.values(), key=lambda item: item.size, default=None)

    def rewind(self) -> None:
        """Queues the unacknowledged publishes again after a loss of the connection, in order, before the others."""
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()
        self._bytes = 0
