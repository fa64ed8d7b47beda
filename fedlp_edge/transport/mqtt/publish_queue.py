"""Publishes on their way out: a queue, and a window of those that the broker has not acknowledged.

Kept here and not in paho, which after a reconnect sends everything it holds at once, whatever the broker's
Receive Maximum, and whose packet ids end at 65535.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 64
"""Publishes on their way at once, if the broker allows that many."""

_PACKET_OVERHEAD = 16

WINDOW_BYTES = 8 * 1024 * 1024
"""Payload bytes on their way at once; bounds the memory that paho's copies take."""


@dataclass(frozen=True, slots=True)
class QueuedPublish:
    """One message to be published.

    Attributes:
        token: names it to the caller.
        topic: without wildcards.
        payload: not copied.
        retain: whether the broker keeps it.
    """

    token: int
    topic: str
    payload: bytes
    retain: bool

    @property
    def size(self) -> int:
        """Bytes of its packet, at most."""
        return len(self.payload) + len(self.topic.encode()) + _PACKET_OVERHEAD


class PublishQueue:
    """``put`` may be called from any thread, the rest belongs to the connection's."""

    def __init__(self) -> None:
        self._waiting: deque[QueuedPublish] = deque()
        self._under_way: dict[int, QueuedPublish] = {}
        self._bytes = 0

    @property
    def idle(self) -> bool:
        """Whether the broker has acknowledged everything."""
        return not self._waiting and not self._under_way

    def put(self, item: QueuedPublish) -> None:
        """Appends to the queue."""
        self._waiting.append(item)

    def take(self, receive_maximum: int) -> QueuedPublish | None:
        """The next one that may be sent now; tell ``sent`` its packet id.

        Args:
            receive_maximum: publishes that the broker allows to be unacknowledged.
        """
        room = len(self._under_way) < min(WINDOW, receive_maximum) and self._bytes < WINDOW_BYTES
        return self._waiting.popleft() if room and self._waiting else None

    def sent(self, packet_id: int, item: QueuedPublish) -> None:
        """It is on its way, unless the packet id is in use: then paho has not sent it, and it waits again."""
        if packet_id in self._under_way:  # the ids went once around while one stayed unacknowledged
            self._waiting.appendleft(item)
            return
        self._under_way[packet_id] = item
        self._bytes += len(item.payload)

    def answered(self, packet_id: int) -> QueuedPublish | None:
        """Ends the way of the one with this packet id; None if there is none."""
        item = self._under_way.pop(packet_id, None)
        if item is not None:
            self._bytes -= len(item.payload)
        return item

    def longest(self) -> QueuedPublish | None:
        """The one with most bytes of those on their way; None if there are none."""
        return max(self._under_way.values(), key=lambda item: item.size, default=None)

    def rewind(self) -> None:
        """The connection is gone: what was on its way waits again, in order, before the rest."""
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()
        self._bytes = 0
