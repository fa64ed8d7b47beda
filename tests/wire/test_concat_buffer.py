from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.concat_buffer import ConcatBuffer, mapped
from fedlp_edge.wire.digests import digest_of


@pytest.mark.parametrize(
    ("start", "stop", "pieces"),
    [
        (0, 2, [b"ab"]),
        (1, 4, [b"bc", b"d"]),
        (2, 6, [b"c", b"d", b"ef"]),
        (3, 4, [b"d"]),
        (4, 99, [b"ef"]),
        (6, 9, []),
        (2, 2, []),
    ],
)
def test_cut_gives_the_pieces_in_which_the_bytes_lie(start: int, stop: int, pieces: list[bytes]) -> None:
    assert ConcatBuffer([b"abc", b"", b"d", b"ef"]).cut(start, stop) == pieces


@given(st.lists(st.binary(max_size=5)), st.integers(0, 30), st.integers(0, 30))
def test_is_read_as_if_the_buffers_were_joined(buffers: list[bytes], start: int, stop: int) -> None:
    spans, joined = ConcatBuffer(buffers), b"".join(buffers)
    assert len(spans) == len(joined)
    assert b"".join(spans.cut(start, stop)) == joined[start:stop]
    assert spans.digest() == digest_of(joined)


@given(st.lists(st.binary(max_size=9)), st.integers(1, 12))
def test_is_split_into_the_same_chunks_as_the_joined_bytes(buffers: list[bytes], chunk_bytes: int) -> None:
    digest = digest_of(b"".join(buffers))
    assert list(split(ConcatBuffer(buffers), digest, chunk_bytes)) == list(
        split(b"".join(buffers), digest, chunk_bytes)
    )


def test_maps_a_file_that_is_empty_too(tmp_path: Path) -> None:
    for content in (b"", b"abc"):
        (tmp_path / "file").write_bytes(content)
        assert mapped(tmp_path / "file") == content
