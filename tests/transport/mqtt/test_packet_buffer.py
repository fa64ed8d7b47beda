from __future__ import annotations

import pytest

from fedlp_edge.transport.mqtt.packet_buffer import MalformedLengthError, PacketBuffer

LONG = b"\x32\xc8\x01" + bytes(200)
HUGE = b"\x32\x80\x80\x40" + bytes(1 << 20)


def taken(buffer: PacketBuffer, data: bytes) -> list[tuple[int, bytes]]:
    """What is complete once these bytes have come, in as many reads as it takes."""
    packets = []
    while data:
        room = buffer.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        buffer.filled(count)
        data = data[count:]
        while (packet := buffer.take()) is not None:
            packets.append((packet[0], bytes(packet[1])))
    return packets


@pytest.mark.parametrize("size", [1, 2, 3, 150, 1 << 20])
def test_packets_are_the_same_however_the_bytes_come(size: int) -> None:
    whole = b"\xd0\x00" + b"\x40\x02\x00\x07" + LONG + b"\x40\x02\x00\x08"
    buffer = PacketBuffer()

    found = [packet for at in range(0, len(whole), size) for packet in taken(buffer, whole[at : at + size])]
    assert found == [(0xD0, b""), (0x40, b"\x00\x07"), (0x32, LONG[3:]), (0x40, b"\x00\x08")]


def test_packet_longer_than_the_buffer_is_taken_with_what_follows_it() -> None:
    buffer = PacketBuffer()

    found = taken(buffer, LONG + HUGE + LONG[:100])
    assert [(command, len(body)) for command, body in found] == [(0x32, 200), (0x32, 1 << 20)]
    assert taken(buffer, LONG[100:]) == [(0x32, LONG[3:])]


def test_many_packets_in_a_row_need_no_more_room() -> None:
    buffer = PacketBuffer()
    for _ in range(3000):
        assert taken(buffer, LONG) == [(0x32, LONG[3:])]
    assert len(buffer.room()) < len(LONG) * 3000


def test_length_of_more_than_four_bytes_is_malformed() -> None:
    assert taken(PacketBuffer(), b"\x32\xff\xff\xff\x7f") == []
    with pytest.raises(MalformedLengthError):
        taken(PacketBuffer(), b"\x32\xff\xff\xff\xff")
