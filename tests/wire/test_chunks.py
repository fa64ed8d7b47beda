from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.errors import BrokerError, PeerError
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.wire.chunks import (
    HEADER_BYTES,
    MAX_RANGES,
    Assembly,
    Chunk,
    FileSink,
    MemorySink,
    chunk_bytes_for,
    chunk_count,
    piece_count,
    split,
)
from fedlp_edge.wire.digests import digest_of


def digest(blob: bytes) -> str:
    return digest_of(blob)


def chunks(blob: bytes, chunk_bytes: int) -> list[Chunk]:
    return [Chunk.parse(data) for data in split(blob, digest(blob), chunk_bytes)]


def assembly(blob: bytes, chunk_bytes: int) -> tuple[Assembly, MemorySink]:
    sink = MemorySink(len(blob))
    return Assembly(digest(blob), len(blob), chunk_bytes, sink), sink


def test_split_writes_the_documented_layout() -> None:
    blob = b"abcdefgh"
    first, second, third = split(blob, digest(blob), 3)

    assert first == (
        b"FLP1\x01\x00\x00\x00"
        + bytes.fromhex("ddaa2ac30a98655962979019e4353832")
        + b"\x00\x00\x00\x00\x00\x00\x00\x03"
        + zlib.crc32(b"abc").to_bytes(4, "big")
        + b"abc"
    )
    assert len(first) == HEADER_BYTES + 3
    assert second.endswith(b"def")
    assert third.endswith(b"gh")


def test_split_of_an_empty_blob_makes_no_chunk_and_its_assembly_is_complete() -> None:
    assert list(split(b"", digest(b""), 3)) == []
    collected, sink = assembly(b"", 3)
    assert collected.complete
    assert collected.finish()
    assert sink.buffer == b""


def test_split_makes_only_the_chunks_asked_for() -> None:
    blob = b"abcdefgh"
    made = [Chunk.parse(data) for data in split(blob, digest(blob), 3, which=[(2, 99), (0, 1)])]

    assert [(chunk.index, bytes(chunk.payload)) for chunk in made] == [(0, b"abc"), (2, b"gh")]


def test_parse_returns_a_view_of_the_message() -> None:
    data = next(split(b"abc", digest(b"abc"), 3))
    chunk = Chunk.parse(data)

    assert (chunk.prefix, chunk.index, chunk.count) == (bytes.fromhex(digest_of(b"abc"))[:16], 0, 1)
    assert chunk.payload.obj is data


@given(st.binary(min_size=1, max_size=400), st.integers(1, 50), st.data())
def test_any_order_with_repeats_and_losses_assembles_once_the_missing_are_repeated(
    blob: bytes, chunk_bytes: int, data: st.DataObject
) -> None:
    messages = list(split(blob, digest(blob), chunk_bytes))
    arrived = data.draw(st.lists(st.sampled_from(messages), max_size=2 * len(messages)))
    collected, sink = assembly(blob, chunk_bytes)

    fresh = [message for message in arrived if collected.add(Chunk.parse(message))]
    assert len(fresh) == len(set(arrived))
    assert collected.complete == (len(fresh) == len(messages))

    for message in split(blob, digest(blob), chunk_bytes, collected.missing):
        assert message not in fresh
        assert collected.add(Chunk.parse(message))
    assert collected.complete
    assert collected.missing == ()
    assert collected.finish()
    assert sink.buffer == blob
    assert collected.ignored == 0


def test_missing_names_half_open_ranges() -> None:
    collected, _ = assembly(b"abcdefgh", 1)
    for chunk in chunks(b"abcdefgh", 1):
        if chunk.index in {0, 3, 4}:
            collected.add(chunk)

    assert collected.missing == ((1, 3), (5, 8))


def test_missing_is_a_bounded_list_and_goes_on_when_its_beginning_has_come() -> None:
    blob = bytes(4 * MAX_RANGES)
    every_other = [chunk for chunk in chunks(blob, 1) if chunk.index % 2]
    collected, _ = assembly(blob, 1)
    for chunk in every_other:
        collected.add(chunk)
    first = collected.missing
    assert first == tuple((index, index + 1) for index in range(0, 2 * MAX_RANGES, 2))

    for message in split(blob, digest(blob), 1, first):
        collected.add(Chunk.parse(message))
    assert collected.missing == tuple((index, index + 1) for index in range(2 * MAX_RANGES, 4 * MAX_RANGES, 2))


def test_add_ignores_and_counts_chunks_of_another_blob_or_cut() -> None:
    collected, _ = assembly(b"abcdefgh", 3)
    foreign = chunks(b"another!", 3)[0]
    other_cut = chunks(b"abcdefgh", 4)[0]

    assert not collected.add(foreign)
    assert not collected.add(other_cut)
    assert collected.ignored == 2
    assert collected.missing == ((0, 3),)


def test_add_ignores_a_payload_of_the_wrong_length() -> None:
    good = chunks(b"abcdefgh", 3)
    collected, _ = assembly(b"abcdefgh", 3)

    assert not collected.add(Chunk(good[0].prefix, 0, 3, memoryview(b"abcd")))
    assert not collected.add(Chunk(good[0].prefix, 2, 3, memoryview(b"ghi")))
    assert collected.ignored == 2


def test_finish_makes_everything_missing_again_if_the_digest_is_wrong() -> None:
    good = chunks(b"abcdef", 3)
    collected, sink = assembly(b"abcdef", 3)
    collected.add(good[0])
    collected.add(Chunk(good[1].prefix, 1, 2, memoryview(b"DEF")))  # a forged chunk that fits

    assert collected.complete
    assert not collected.finish()
    assert collected.missing == ((0, 2),)
    for chunk in good:
        assert collected.add(chunk)
    assert collected.finish()
    assert sink.buffer == b"abcdef"


def test_finish_refuses_an_incomplete_blob() -> None:
    collected, _ = assembly(b"abcdef", 3)

    with pytest.raises(ValueError, match="2 of 2 chunks are missing"):
        collected.finish()


def test_file_sink_collects_into_a_sparse_file(tmp_path: Path) -> None:
    blob = bytes(range(256)) * 4096
    path = tmp_path / "blob"
    collected = Assembly(digest(blob), len(blob), 4096, FileSink.open(path, len(blob)))
    parts = chunks(blob, 4096)
    assert path.stat().st_size == len(blob)
    collected.add(parts[-1])
    assert path.stat().st_blocks * 512 < len(blob) // 2

    for chunk in parts:
        collected.add(chunk)
    assert collected.finish()
    assert path.read_bytes() == blob


def test_abandon_closes_the_file_and_later_writes_fail(tmp_path: Path) -> None:
    sink = FileSink.open(tmp_path / "blob", 3)
    collected = Assembly(digest(b"abc"), 3, 3, sink)
    collected.abandon()
    collected.abandon()

    with pytest.raises(OSError, match="is closed"):
        collected.add(chunks(b"abc", 3)[0])


def test_chunk_count_rounds_up() -> None:
    assert [chunk_count(size, 3) for size in (0, 1, 3, 4)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 524288), (2_000_000, 524288), (65536, 65536 - 512 - 36), (1024 + 512 + 36, 1024)],
)
def test_chunk_bytes_leave_room_for_the_packet(limit: int | None, expected: int) -> None:
    assert chunk_bytes_for(BrokerLimits("5", limit, 20)) == expected


def test_chunk_bytes_refuse_a_broker_whose_packets_are_too_small() -> None:
    with pytest.raises(BrokerError, match=r"1500 bytes at most; .* at least 1572 \(525312 and more is sensible\)"):
        chunk_bytes_for(BrokerLimits("5", 1500, 20))


def test_parse_refuses_a_changed_payload() -> None:
    data = bytearray(next(split(b"abc", digest(b"abc"), 3)))
    data[-1] ^= 1

    with pytest.raises(PeerError, match="damaged"):
        Chunk.parse(bytes(data))


def test_chunks_that_are_too_long_go_in_pieces_and_come_together_in_any_order() -> None:
    blob = bytes(range(25))
    made = list(split(blob, digest(blob), 10, most=4, report=True))
    collected, sink = assembly(blob, 10)
    parts = [Chunk.parse(data) for data in made]

    assert [(part.index, part.piece, part.pieces, len(part.payload)) for part in parts] == [
        (0, 0, 3, 3),
        (0, 1, 3, 3),
        (0, 2, 3, 4),
        (1, 0, 3, 3),
        (1, 1, 3, 3),
        (1, 2, 3, 4),
        (2, 0, 2, 2),
        (2, 1, 2, 3),
    ]
    assert [part.report for part in parts] == [False] * 7 + [True]
    for part in reversed(parts):
        assert collected.add(part)
        assert not collected.add(part)
    assert collected.finish()
    assert sink.buffer == blob


def test_chunk_is_missing_until_its_last_piece_and_a_new_cut_begins_anew() -> None:
    blob = bytes(range(12))
    collected, sink = assembly(blob, 12)
    first, second = (Chunk.parse(data) for data in split(blob, digest(blob), 12, most=6))
    thirds = [Chunk.parse(data) for data in split(blob, digest(blob), 12, most=4)]

    assert collected.add(first)
    assert all(collected.add(third) for third in thirds[:2])
    assert collected.add(second)
    assert collected.missing == ((0, 1),)
    assert collected.add(first)
    assert collected.complete
    assert collected.finish()
    assert sink.buffer == blob


def test_whole_chunk_makes_its_pieces_needless() -> None:
    blob = bytes(range(12))
    collected, _ = assembly(blob, 12)
    first, second = (Chunk.parse(data) for data in split(blob, digest(blob), 12, most=6))

    assert collected.add(first)
    assert collected.add(chunks(blob, 12)[0])
    assert not collected.add(second)
    assert collected.finish()


def test_a_piece_of_another_length_is_ignored() -> None:
    blob = bytes(range(12))
    collected, _ = assembly(blob, 12)
    piece = Chunk.parse(next(split(blob, digest(blob), 12, most=6)))

    assert not collected.add(dataclasses.replace(piece, payload=piece.payload[:5]))
    assert collected.ignored == 1


@pytest.mark.parametrize(
    ("size", "most", "pieces"), [(10, None, 1), (10, 10, 1), (10, 9, 2), (10, 1, 10), (2048, 1, 256)]
)
def test_number_of_pieces(size: int, most: int | None, pieces: int) -> None:
    assert piece_count(size, most) == pieces
