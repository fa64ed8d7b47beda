"""This module cuts the bytes that a socket brings into MQTT packets.

A read of the socket brings a part of a packet, or several packets. paho reads the first byte of a packet, then each
byte of its length, then the rest: four or five calls of the kernel for a packet. Here one call brings all there is.
"""

from __future__ import annotations

_LEAST_ROOM = 64 * 1024
_MOST_LENGTH_BYTES = 4


class MalformedLengthError(Exception):
    """Raised when the length of a packet goes on for more bytes than MQTT allows."""


class PacketBuffer:
    """The bytes that have come and are not handled yet: the beginning of a packet at the most, between two reads."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(4 * _LEAST_ROOM))
        self._start = 0
        self._end = 0
        self._wanted = 0  # bytes of the packet that has begun, as far as its length is known

    def room(self) -> memoryview:
        """Returns where the next bytes belong: room for what is missing of the packet that has begun, and for more."""
        held = self._end - self._start
        if max(self._wanted - held, _LEAST_ROOM) > len(self._view) - self._end:
            view = self._view
            if self._wanted + _LEAST_ROOM > len(view):
                view = memoryview(bytearray(self._wanted + _LEAST_ROOM))
            view[:held] = self._view[self._start : self._end]
            self._view, self._start, self._end = view, 0, held
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """Notes that so many bytes have come into ``room``."""
        self._end += count

    def take(self) -> tuple[int, memoryview] | None:
        """Takes the next packet, if all of it has come.

        Returns:
            The first byte of the packet and what follows its length, which is overwritten once ``room`` is called.

        Raises:
            MalformedLengthError: The length is none.
        """
        length = shift = 0
        view, position = self._view, self._start + 1
        while position < self._end:
            digit = view[position]
            position += 1
            length |= (digit & 0x7F) << shift
            if digit < 0x80:
                return self._whole(position, position + length)
            shift += 7
            if shift == 7 * _MOST_LENGTH_BYTES:
                raise MalformedLengthError
        return None

    def _whole(self, body: int, end: int) -> tuple[int, memoryview] | None:
        if end > self._end:
            self._wanted = end - self._start
            return None
        command = self._view[self._start]
        self._start, self._wanted = end, 0
        return command, self._view[body:end]
