"""This module cuts blobs into chunks, one per MQTT message, and assembles them again in any order.

A chunk describes itself: its blob (the first half of the digest), its index among how many chunks, and a checksum.
So a receiver needs no state to check one, and repeated, reordered or outdated chunks do no harm.
Layout, big-endian, 36 bytes before the payload::

    magic "FLP1" | kind u8 | flags u8 | piece u8 | pieces - 1 u8 | digest prefix 16 bytes
    | index u32 | count u32 | crc32 u32

Flag 1 marks the last chunk of a slice: the sender stops for now, and asks the receiver to report its progress.

The size of a blob's chunks is agreed before the first one is sent. A sender that finds out later that its broker or
its link carries less cuts each chunk into pieces of (nearly) equal size, which needs no new agreement.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, Self

from fedlp_edge.errors import BrokerError, PeerError
from fedlp_edge.wire.checksums import crc32
from fedlp_edge.wire.concat_buffer import ConcatBuffer
from fedlp_edge.wire.ranges import Ranges, clip, expand, ranges_of
from fedlp_edge.wire.sinks import FileSink, MemorySink, Sink

__all__ = [
    "DEFAULT_CHUNK_BYTES",
    "GOOD_PACKET_BYTES",
    "HEADER_BYTES",
    "MAX_RANGES",
    "PACKET_ROOM",
    "Assembly",
    "Chunk",
    "FileSink",
    "MemorySink",
    "Sink",
    "chunk_bytes_for",
    "chunk_bytes_for_link",
    "chunk_count",
    "expand",
    "piece_count",
    "ranges_of",
    "split",
]

MAGIC = b"FLP1"
KIND_BLOB = 1
MAX_PIECES = 256
FLAG_REPORT = 1
PREFIX_BYTES = 16
DEFAULT_CHUNK_BYTES = 512 * 1024
GOOD_PACKET_BYTES = DEFAULT_CHUNK_BYTES + 1024
"""Bytes of an MQTT packet that carries the longest chunk, rounded up."""

MAX_RANGES = 512
"""Largest number of ranges in one request; chunks beyond them are requested after these have arrived."""

_HEADER = struct.Struct(f">4sBBBB{PREFIX_BYTES}sIII")
HEADER_BYTES = _HEADER.size

# MQTT's fixed header (5), topic (2 + 256 on the narrowest brokers), packet id (2), properties (some): rounded up.
_MQTT_OVERHEAD = 512
PACKET_ROOM = _MQTT_OVERHEAD + HEADER_BYTES
"""Bytes of an MQTT packet that are reserved for everything but the chunk's payload."""

_SMALLEST_CHUNK = 1024

CHUNK_SECONDS = 2.0
"""Seconds that a link may need for one chunk: every other packet waits behind it, MQTT pings too, and brokers end a
connection from which no whole packet comes for 1.5 times the keep-alive."""

UNKNOWN_LINK_BYTES = 64 * 1024
"""Bytes of the largest chunk for an unknown link rate: at 2.5 kB/s it takes less than the default keep-alive, 30 s."""


class PacketLimit(Protocol):
    """An object that knows the largest MQTT packet of a broker, such as ``transport.base.BrokerLimits``."""

    @property
    def max_packet_bytes(self) -> int | None:
        """Bytes of the largest packet; None if the broker announced no limit."""


def chunk_bytes_for(limits: PacketLimit, default: int = DEFAULT_CHUNK_BYTES) -> int:
    """Returns the payload bytes per chunk with which an MQTT packet stays within the broker's limit.

    Raises:
        BrokerError: The broker's packets are too small to carry models.
    """
    if limits.max_packet_bytes is None:
        return default
    room = limits.max_packet_bytes - PACKET_ROOM
    if room < _SMALLEST_CHUNK:
        raise BrokerError(
            f"the broker carries packets of {limits.max_packet_bytes} bytes at most; raise its maximum packet size "
            f"to at least {_SMALLEST_CHUNK + PACKET_ROOM} ({GOOD_PACKET_BYTES} and more is sensible)"
        )
    return min(default, room)


def chunk_bytes_for_link(most: int, rate: float | None) -> int:
    """Returns the payload bytes per chunk for one link.

    The result is ``most`` or a power of two below it, so that a slightly different measured rate gives the same chunks.

    Args:
        most: Largest payload bytes per chunk that the broker carries.
        rate: Link rate in bytes per second; None if it is unknown.
    """
    if rate is None:
        return min(most, UNKNOWN_LINK_BYTES)
    wanted = rate * CHUNK_SECONDS
    if wanted >= most:
        return most
    return min(most, max(_SMALLEST_CHUNK, 1 << (max(1, int(wanted)).bit_length() - 1)))


def chunk_count(size: int, chunk_bytes: int) -> int:
    """Returns the number of chunks of a blob of ``size`` bytes; 0 if it is empty."""
    return -(-size // chunk_bytes)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a blob, or one piece of a chunk, whose checksum was verified.

    Attributes:
        prefix: First 16 bytes of the blob's digest.
        index: Number of the chunk, from 0.
        count: Number of chunks of the blob.
        payload: Bytes of the chunk, or of the piece, as a view of the parsed message.
        report: Whether the sender asks the receiver to report its progress.
        piece: Number of the piece, from 0.
        pieces: Number of pieces of the chunk; 1 if it is whole.
    """

    prefix: bytes
    index: int
    count: int
    payload: memoryview
    report: bool = False
    piece: int = 0
    pieces: int = 1

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Self:
        """Parses one message without copying its payload.

        Raises:
            PeerError: The message is no chunk of this protocol version, or was damaged.
        """
        if len(data) <= HEADER_BYTES:
            raise PeerError(f"a message of {len(data)} bytes is no chunk")
        magic, kind, flags, piece, more, prefix, index, count, crc = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise PeerError("a message without the chunk mark is no chunk")
        if kind != KIND_BLOB or flags & ~FLAG_REPORT:
            raise PeerError(f"chunk of unknown kind {kind} or flags {flags}; is the sender of a newer version?")
        if index >= count or piece > more:
            raise PeerError(f"piece {piece} of {more + 1} of chunk {index} of {count} does not exist")
        payload = memoryview(data)[HEADER_BYTES:]
        if crc32(payload) != crc:
            raise PeerError(f"chunk {index} of {count} was damaged on its way")
        return cls(prefix, index, count, payload, bool(flags & FLAG_REPORT), piece, more + 1)


def split(
    blob: bytes | bytearray | memoryview | ConcatBuffer,
    digest: str,
    chunk_bytes: int,
    which: Iterable[tuple[int, int]] | None = None,
    *,
    most: int | None = None,
    report: bool = False,
) -> Iterator[bytes]:
    """Yields a blob's messages one by one.

    Args:
        blob: Bytes of the blob, which must not change while the iterator is in use.
        digest: Digest of the blob, 64 hexadecimal digits.
        chunk_bytes: Payload bytes of every chunk but the last.
        which: Half-open ranges of chunk numbers; all by default. Numbers that do not exist are left out.
        most: Largest payload bytes of a message; a longer chunk is sent in pieces. None for no limit.
        report: Whether the last message asks the receiver to report its progress.
    """
    whole = blob if isinstance(blob, ConcatBuffer) else ConcatBuffer([blob])
    prefix = _prefix(digest)
    count = chunk_count(len(whole), chunk_bytes)
    numbers = clip([(0, count)] if which is None else which, count)
    asking = numbers[-1][1] - 1 if report and numbers else None
    for index in expand(numbers, count):
        start, stop = index * chunk_bytes, min((index + 1) * chunk_bytes, len(whole))
        pieces = piece_count(stop - start, most)
        for piece in range(pieces):
            low, high = _place(stop - start, piece, pieces)
            payload = whole.cut(start + low, start + high)
            checksum = 0
            for part in payload:
                checksum = crc32(part, checksum)
            flags = FLAG_REPORT if index == asking and piece == pieces - 1 else 0
            header = _HEADER.pack(MAGIC, KIND_BLOB, flags, piece, pieces - 1, prefix, index, count, checksum)
            yield b"".join((header, *payload))


def piece_count(size: int, most: int | None) -> int:
    """Returns the number of pieces of a chunk: at most 256, each of at most ``most`` bytes if possible."""
    return 1 if most is None else max(1, min(MAX_PIECES, size, -(-size // most)))


def _place(size: int, piece: int, pieces: int) -> tuple[int, int]:
    """Returns the first byte of a piece of a chunk of ``size`` bytes, and the one after its last."""
    return size * piece // pieces, size * (piece + 1) // pieces


class Assembly:
    """One blob that is being received, chunk by chunk.

    Its size and digest are known beforehand (from a manifest, or an offer that was checked), so its memory does not
    depend on what arrives.

    Args:
        digest: Digest of the blob, 64 hexadecimal digits.
        size: Bytes of the blob, bounded by the caller.
        chunk_bytes: Payload bytes of every chunk but the last.
        sink: Sink that stores the bytes.

    Attributes:
        ignored: Number of chunks that were ignored because they belong to another blob or have another size.
    """

    def __init__(self, digest: str, size: int, chunk_bytes: int, sink: Sink) -> None:
        self.ignored = 0
        self._digest = digest
        self._prefix = _prefix(digest)
        self._size = size
        self._chunk_bytes = chunk_bytes
        self._sink = sink
        self._count = chunk_count(size, chunk_bytes)
        self._have = bytearray(self._count)
        self._missing = self._count
        self._pieces: dict[int, bytearray] = {}

    def add(self, chunk: Chunk) -> bool:
        """Stores a chunk or a piece; returns False if it is a repeat, or does not belong to this blob (``ignored``).

        Raises:
            OSError: The sink cannot store the bytes.
        """
        start = chunk.index * self._chunk_bytes
        low, high = _place(min(self._chunk_bytes, self._size - start), chunk.piece, chunk.pieces)
        if chunk.prefix != self._prefix or chunk.count != self._count or len(chunk.payload) != high - low:
            self.ignored += 1
            return False
        pieces = self._pieces.get(chunk.index, b"")
        if self._have[chunk.index] or (len(pieces) == chunk.pieces and pieces[chunk.piece]):
            return False
        self._sink.write(start + low, chunk.payload)
        if self._completes(chunk):
            self._have[chunk.index] = 1
            self._missing -= 1
        return True

    def resume(self) -> None:
        """Counts chunks that an earlier process has written as arrived; ``finish`` finds out if they were not."""
        for start, stop in self._sink.extents():
            first = -(-start // self._chunk_bytes)
            last = self._count if stop >= self._size else stop // self._chunk_bytes
            for index in range(first, last):
                self._missing -= not self._have[index]
                self._have[index] = 1

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived; ``finish`` verifies their digest."""
        return self._missing == 0

    @property
    def left(self) -> int:
        """Number of chunks that have not arrived yet."""
        return self._missing

    @property
    def missing(self) -> Ranges:
        """Returns the first ``MAX_RANGES`` half-open ranges of chunks that have not arrived yet."""
        return tuple(islice(self._gaps(), MAX_RANGES))

    def identify(self, digest: str, size: int) -> None:
        """Sets the blob's digest and size, if only the first half of the digest and the number of chunks were known.

        Args:
            digest: Digest that begins with the prefix of the chunks so far.
            size: Bytes of the blob, which give the known number of chunks.

        Raises:
            ValueError: Digest or size belong to another blob.
        """
        if _prefix(digest) != self._prefix or chunk_count(size, self._chunk_bytes) != self._count:
            raise ValueError(f"{digest} of {size} bytes is not what has been coming")
        self._digest, self._size = digest, size

    def finish(self) -> bool:
        """Verifies the digest of a complete blob and closes the sink.

        Returns:
            False if the bytes do not have the digest; then every chunk counts as missing again.

        Raises:
            ValueError: The blob is not complete.
        """
        if not self.complete:
            raise ValueError(f"{self._missing} of {self._count} chunks are missing")
        if self._sink.digest() == self._digest:
            self._sink.close()
            return True
        self._have = bytearray(self._count)
        self._missing = self._count
        self._pieces.clear()
        return False

    def abandon(self) -> None:
        """Closes the sink of an incomplete blob."""
        self._sink.close()

    def _completes(self, chunk: Chunk) -> bool:
        """Records a piece that has been stored; returns whether its chunk is whole."""
        there = self._pieces.get(chunk.index)
        # If the sender has changed the number of pieces, the earlier pieces no longer count.
        if there is None or len(there) != chunk.pieces:
            there = self._pieces[chunk.index] = bytearray(chunk.pieces)
        there[chunk.piece] = 1
        if not all(there):
            return False
        del self._pieces[chunk.index]
        return True

    def _gaps(self) -> Iterator[tuple[int, int]]:
        start = self._have.find(0)
        while start >= 0:
            stop = self._have.find(1, start)
            if stop < 0:
                stop = self._count
            yield start, stop
            start = self._have.find(0, stop)


def _prefix(digest: str) -> bytes:
    return bytes.fromhex(digest)[:PREFIX_BYTES]
