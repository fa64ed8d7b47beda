"""Sending a lot without drowning the broker: a bounded window of unacknowledged publishes.

A transport's queue is unlimited, so whoever has thousands of chunks to send hands them to a pump as
iterators. Chunks are made when there is room for them, never before, and streams take turns.
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
    """Sends streams of payloads over one transport.

    Args:
        transport: where to.
        window: how many publishes may be unacknowledged by the broker.
    """

    def __init__(self, transport: Transport, window: int) -> None:
        self._transport = transport
        self._window = window
        self._in_flight: dict[int, _Stream] = {}
        self._streams: deque[_Stream] = deque()

    @property
    def idle(self) -> bool:
        """Whether everything was taken by the broker."""
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
            topic: of every payload.
            payloads: made one by one as there is room.
            key: a stream of the same key that is still under way is replaced (a repeated request is not
                answered twice); empty for none.
            sent: called with the bytes of each payload that is handed over, for accounting.
            taken: called for each payload that the broker has acknowledged, or refused.
        """
        if key:
            self._streams = deque(stream for stream in self._streams if stream.key != key)
        self._streams.append(_Stream(key, topic, payloads, sent, taken))
        self._fill()

    def delivered(self, token: int) -> bool:
        """Takes a Delivered event; False if the token is not the pump's."""
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
