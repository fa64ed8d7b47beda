from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.transport.base import Delivered, Received, TransportEvent
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher


class Reader:
    """A publisher, and what a subscriber of everything receives from it."""

    def __init__(self, window: int) -> None:
        self.hub = MemoryHub()
        self.received: list[bytes] = []
        transport, reader = self.hub.transport("sender"), self.hub.transport("reader")
        transport.start(self._sender)
        reader.start(self._reader)
        reader.subscribe("#")
        self.hub.deliver()
        self.publisher = WindowedPublisher(transport, window)

    def _sender(self, event: TransportEvent) -> None:
        if isinstance(event, Delivered):
            assert self.publisher.delivered(event.token)

    def _reader(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            self.received.append(event.payload)


def test_makes_payloads_only_as_the_window_has_room() -> None:
    reader = Reader(2)
    payloads = iter([b"1", b"2", b"3"])

    reader.publisher.push("t", payloads)
    assert next(payloads) == b"3"
    reader.hub.deliver()

    assert reader.received == [b"1", b"2"]
    assert reader.publisher.idle


def test_streams_take_turns() -> None:
    reader = Reader(1)

    reader.publisher.push("a", iter([b"a1", b"a2", b"a3"]))
    reader.publisher.push("b", iter([b"b1", b"b2"]))
    assert not reader.publisher.idle
    reader.hub.deliver()

    assert reader.received == [b"a1", b"a2", b"b1", b"a3", b"b2"]


def test_stream_of_the_same_key_replaces_what_is_unfinished() -> None:
    reader = Reader(1)

    reader.publisher.push("t", iter([b"1", b"2"]), key="k")
    reader.publisher.push("t", iter([b"3"]), key="k")
    reader.hub.deliver()

    assert reader.received == [b"1", b"3"]


def test_counts_bytes_when_sent_and_payloads_when_acknowledged() -> None:
    reader = Reader(10)
    sent: list[int] = []
    taken: list[bool] = []

    reader.publisher.push("t", iter([b"abc", b"d"]), sent=sent.append, taken=lambda: taken.append(True))
    assert (sent, taken) == ([3, 1], [])
    reader.hub.deliver()

    assert taken == [True, True]
    assert not reader.publisher.delivered(10**6)


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(1, 4))
def test_every_payload_arrives_once_whatever_the_window(sizes: list[int], window: int) -> None:
    reader = Reader(window)
    streams = [[b"%d-%d" % (stream, index) for index in range(size)] for stream, size in enumerate(sizes)]

    for stream in streams:
        reader.publisher.push("t", iter(stream))
    reader.hub.deliver()

    assert reader.publisher.idle
    assert sorted(reader.received) == sorted(payload for stream in streams for payload in stream)
