"""Bytes of a stream cut into MQTT packets, large ones without copying them. Pure.

The socket reads straight into the packet that is under way, and what follows it in the same call into a small spare
buffer, where the heads of the next packets are found.
"""

from __future__ import annotations

from typing import NamedTuple

from fedlp_edge.transport.packets import MalformedPacket, read_head

_SPARE_BYTES = 16 * 1024


class Packet(NamedTuple):
    """One whole packet: its first byte (type and flags), and what follows its length."""

    first: int
    body: memoryview


class PacketReader:
    """The packets of one connection.

    Args:
        most: bytes of the largest packet that is taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._spare = memoryview(bytearray(_SPARE_BYTES))
        self._held = 0  # bytes at the start of the spare buffer that are not cut yet
        self._first = 0
        self._body: memoryview | None = None
        self._filled = 0

    def room(self) -> list[memoryview]:
        """Where the next bytes of the stream go, in this order."""
        if self._body is None:
            return [self._spare[self._held :]]
        return [self._body[self._filled :], self._spare]

    def took(self, nbytes: int) -> list[Packet]:
        """Notes that so many bytes were put into ``room``; returns the packets that are whole now.

        Raises:
            MalformedPacket: it is no MQTT, or larger than is taken.
        """
        packets: list[Packet] = []
        if self._body is not None:
            part = min(nbytes, len(self._body) - self._filled)
            self._filled += part
            nbytes -= part
            if self._filled < len(self._body):
                return packets
            packets.append(Packet(self._first, self._body))
            self._body = None
        self._held += nbytes
        start = 0
        while self._body is None and (head := read_head(self._spare[start : self._held])) is not None:
            first, length, head_bytes = head
            if length > self._most:
                raise MalformedPacket
            start += head_bytes
            here = self._spare[start : min(start + length, self._held)]
            body = memoryview(bytearray(length))
            body[: len(here)] = here
            start += len(here)
            if len(here) == length:
                packets.append(Packet(first, body))
            else:
                self._first, self._body, self._filled = first, body, len(here)
        rest = bytes(self._spare[start : self._held])
        self._spare[: len(rest)] = rest
        self._held = len(rest)
        return packets
