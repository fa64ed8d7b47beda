from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.transport import packets
from fedlp_edge.transport.packets import MalformedPacket
from fedlp_edge.transport.reader import PacketReader


def feed(reader: PacketReader, stream: bytes, most: int) -> list[tuple[int, bytes]]:
    """Puts the stream where the reader wants it, at most so many bytes in one call, as a socket would."""
    found = []
    while stream:
        left = stream[:most]
        for room in reader.room():
            part, left = left[: len(room)], left[len(room) :]
            room[: len(part)] = part
        count = min(len(stream), most) - len(left)
        found += [(packet.first, bytes(packet.body)) for packet in reader.took(count)]
        stream = stream[count:]
    return found


def packet(payload: bytes) -> bytes:
    return packets.publish_head("3.1.1", "t", 1, len(payload), retain=False) + payload


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400))
def test_finds_the_same_packets_however_the_stream_is_cut(payloads: list[bytes], most: int) -> None:
    found = feed(PacketReader(1000), b"".join(map(packet, payloads)), most)
    assert found == [(0x32, b"\x00\x01t\x00\x01" + payload) for payload in payloads]


@pytest.mark.parametrize("most", [1000, 16 * 1024, 100_000, 1 << 20])
def test_keeps_large_packets_between_small_ones_in_order(most: int) -> None:
    payloads = [b"a", bytes(range(256)) * 800, b"b", b"", b"c" * 16_384, b"d" * 70_000]
    found = feed(PacketReader(1 << 20), b"".join(map(packet, payloads)), most)
    assert [body[5:] for _, body in found] == payloads


def test_refuses_a_packet_that_is_too_large_before_it_comes() -> None:
    reader = PacketReader(1000)
    with pytest.raises(MalformedPacket):
        feed(reader, packet(bytes(1000))[:4], 4)


def test_refuses_a_length_that_does_not_end() -> None:
    with pytest.raises(MalformedPacket):
        feed(PacketReader(1000), b"\x30\xff\xff\xff\xff", 5)
