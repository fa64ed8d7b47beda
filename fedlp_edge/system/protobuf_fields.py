"""This module reads the fields of protobuf messages, such as ONNX files, without the library that wrote them."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types of fields."""


def fields(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, wire type, first byte and end of every field of a message.

    Raises:
        ValueError, IndexError: The bytes are no message.
    """
    at = start
    while at < stop:
        key, at = varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            end = varint(view, at)[1]
        elif wire == LENGTH:
            size, at = varint(view, at)
            end = at + size
        elif wire in (FIXED32, FIXED64):
            end = at + (4 if wire == FIXED32 else 8)
        else:
            raise ValueError(f"byte {at} begins no field")
        if end > stop:
            raise ValueError(f"a field ends at byte {end}, behind its message")
        yield number, wire, at, end
        at = end


def varint(view: memoryview, at: int) -> tuple[int, int]:
    """Returns the number that begins at a byte, and the byte behind it."""
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"byte {at} continues an endless number")


def message_field(number: int, content: bytes) -> bytes:
    """Returns a field that holds a message or a text."""
    length, size = b"", len(content)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | LENGTH]) + length + bytes([size]) + content
