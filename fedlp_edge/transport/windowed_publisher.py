"""This module publishes many payloads through a bounded window of unacknowledged publishes.

A transport's queue is unlimited, so thousands of chunks go through a ``WindowedPublisher`` as iterators instead. Chunks
are made only when the window has room for them, and streams take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedlp_edge.transport.base import Transport


@dataclass
class _Stream:
    key: str
    topic: str
    payloads: Iterator[bytes]
    sent: Callable[[int], None]
    taken: Callable[[], None]


class WindowedPublisher:
    """A sender of streams of payloads over one transport.

    Args:
        transport: Transport that publishes.
        window: Number of publishes that may be unacknowledged by the broker.
    """

    def __init__(self, transport: Transport, window: int) -> None:
        self._transport = transport
        self._window = window
        self._in_flight: dict[int, _Stream] = {}
        self._streams: deque[_Stream] = deque()

    @property
    def idle(self) -> bool:
        """Whether the broker has acknowledged every payload of every stream."""
        return not self._streams and not self._in_flight

    def push(
        self,
        topic: str,
        payloads: Iterator[bytes],
        *,
        key: str = "",
        sent: Callable[[int], None] = lambda _: None,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        """Adds a stream.

        Args:
            topic: Topic of every payload.
            payloads: Iterator of payloads, advanced when the window has room.
            key: Key of the stream, which replaces an unfinished stream of the same key (so that a repeated request
                is not answered twice); empty for none.
            sent: Callback with the bytes of each payload that is published, for accounting.
            taken: Callback for each payload that the broker has acknowledged or refused.
        """
        if key:
            self._streams = deque(stream for stream in self._streams if stream.key != key)
        self._streams.append(_Stream(key, topic, payloads, sent, taken))
        self._fill()

    def delivered(self, token: int) -> bool:
        """Handles a Delivered event; returns False if the token is not of this publisher."""
        stream = self._in_flight.pop(token, None)
        if stream is None:
            return False
        stream.taken()
        self._fill()
        return True

    def _fill(self) -> None:
        while self._streams and len(self._in_flight) < self._window:
            stream = self._streams.popleft()
            payload = next(stream.payloads, None)
            if payload is None:
                continue
            self._in_flight[self._transport.publish(stream.topic, payload)] = stream
            stream.sent(len(payload))
            self._streams.append(stream)
