"""Bytes that are no chunk, no control message, no safetensors: one kind of error, and no memory taken."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.errors import PeerError
from fedlp_edge.wire.chunks import Assembly, Chunk, MemorySink, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Decoder, FromCoordinator, FromDevice, UnitRequest, encode
from fedlp_edge.wire.tensors import pack, unpack
from tests.wire.fleet import delta, update

LIMIT = 64 * 1024
from_device = Decoder[FromDevice](FromDevice, LIMIT)

BLOB = b"twelve bytes"
DIGEST = digest_of(BLOB)
MESSAGE = next(split(BLOB, DIGEST, 12))


def header(
    magic: bytes = b"FLP1",
    kind: int = 1,
    flags: int = 0,
    pieces: int = 0,
    index: int = 0,
    count: int = 1,
    crc: int = -1,
) -> bytes:
    checksum = zlib.crc32(BLOB) if crc < 0 else crc
    return struct.pack(">4sBBH16sIII", magic, kind, flags, pieces, bytes.fromhex(DIGEST)[:16], index, count, checksum)


def test_header_of_this_file_is_the_real_one() -> None:
    assert header() + BLOB == MESSAGE


@pytest.mark.parametrize(
    "data",
    [
        header(magic=b"FLP2") + BLOB,
        header(kind=0) + BLOB,
        header(kind=2) + BLOB,
        header(flags=2) + BLOB,
        header(pieces=0x0100) + BLOB,  # the second piece of one
        header(index=1) + BLOB,
        header(index=2**32 - 1, count=2**32 - 1) + BLOB,
        header(count=0) + BLOB,
        header(crc=0) + BLOB,
        header(crc=0),  # no payload
        b"{}",
        b"",
    ],
)
def test_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        Chunk.parse(data)


def test_chunk_cut_at_any_byte_is_refused() -> None:
    for length in range(len(MESSAGE)):
        with pytest.raises(PeerError):
            Chunk.parse(MESSAGE[:length])


@given(st.integers(0, len(MESSAGE) - 1), st.integers(1, 255))
def test_chunk_with_any_byte_changed_never_becomes_part_of_the_blob(position: int, mask: int) -> None:
    changed = bytearray(MESSAGE)
    changed[position] ^= mask
    sink = MemorySink(len(BLOB))
    assembly = Assembly(DIGEST, len(BLOB), 12, sink)
    with contextlib.suppress(PeerError):
        assembly.add(Chunk.parse(bytes(changed)))
    assert not assembly.complete
    assert sink.buffer == bytes(len(BLOB))


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_peer_errors(data: bytes) -> None:
    for read in (Chunk.parse, unpack, from_device):
        with pytest.raises(PeerError):
            read(data)


@given(st.binary(max_size=100), st.integers(0, 2**64 - 1))
def test_random_safetensors_headers_raise_nothing_but_peer_errors(data: bytes, length: int) -> None:
    for prefix in (length, len(data)):
        try:
            found = unpack(prefix.to_bytes(8, "little") + data)
        except PeerError:
            continue
        assert found == {}  # "{}" with blanks


def test_chunk_that_claims_four_billion_parts_takes_no_memory() -> None:
    bomb = header(index=0, count=2**32 - 1) + BLOB
    tracemalloc.start()
    try:
        chunk = Chunk.parse(bomb)
        assert not Assembly(DIGEST, len(BLOB), 12, MemorySink(len(BLOB))).add(chunk)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)), max_size=50))
def test_request_for_any_ranges_makes_each_real_chunk_once_at_most(missing: list[tuple[int, int]]) -> None:
    request = UnitRequest(run="r", device="d", unit="L1", digest=DIGEST, missing=tuple(missing))
    known = from_device(encode(request))
    assert isinstance(known, UnitRequest)

    assert len(list(split(BLOB, DIGEST, 4, known.missing))) <= 3


def test_offer_cut_at_any_byte_is_refused() -> None:
    message = encode(update()[0])
    for length in range(len(message)):
        with pytest.raises(PeerError):
            from_device(message[:length])


@pytest.mark.parametrize(
    "message",
    [
        b"[" * 5000 + b"]" * 5000,
        b'{"type":"Offer","run":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"type":"Task"}',  # not a device's to send
        b'{"type":"Nonsense"}',
        b'{"run":"r"}',
        b"null",
        b"\xff\xfe",
        b'{"type":"Ready","run":"../../etc","device":"d","session":"s","depth":1}',
        b'{"type":"Ready","run":"r","device":"a/b","session":"s","depth":1}',
        b'{"type":"Ready","run":"r","device":"+","session":"s","depth":1}',
        b'{"type":"Ready","run":"r","device":"d\\n","session":"s","depth":1}',
        b'{"type":"Ready","run":"r\\n","device":"d","session":"s","depth":1}',
        b'{"type":"Ready","run":"r","device":"d","session":"s","depth":0}',
        b'{"type":"Ready","run":"r","device":"d","session":"s","depth":1e400}',
        b'{"type":"UnitRequest","run":"r","device":"d","unit":"L0","digest":"' + b"0" * 64 + b'","missing":[]}',
        b'{"type":"UnitRequest","run":"r","device":"d","unit":"L1","digest":"xyz","missing":[]}',
        b'{"type":"UnitRequest","run":"r","device":"d","unit":"L1","digest":"' + b"0" * 64 + b'","missing":[[-1,2]]}',
    ],
)
def test_control_message_is_refused(message: bytes) -> None:
    with pytest.raises(PeerError):
        from_device(message)


def test_control_message_over_its_limit_is_refused_unread() -> None:
    with pytest.raises(PeerError, match="over the limit of 65536"):
        from_device(b" " * (LIMIT + 1))


def test_coordinator_messages_are_not_taken_for_device_messages_or_the_other_way_round() -> None:
    with pytest.raises(PeerError):
        Decoder[FromCoordinator](FromCoordinator, LIMIT)(encode(update()[0]))


def test_safetensors_cut_at_any_byte_are_refused() -> None:
    blob = pack({"a.weight": delta("a.weight"), "a.bias": delta("a.bias")})
    for length in range(len(blob)):
        with pytest.raises(PeerError):
            unpack(blob[:length])


@pytest.mark.parametrize("shape", ["[0,9007199254740992]", "[0,4611686018427387904,4]", "[" + "0," * 40 + "0]"])
def test_safetensors_with_impossible_empty_shapes_are_refused(shape: str) -> None:
    text = f'{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}'.encode()
    blob = len(text).to_bytes(8, "little") + text
    try:
        found = unpack(blob)
    except PeerError:
        return
    assert found["w"].size == 0
