from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.sinks import FileSink, MemorySink


@given(st.binary(min_size=1, max_size=40), st.lists(st.tuples(st.integers(0, 39), st.integers(1, 12)), max_size=12))
def test_file_sink_has_the_digest_of_what_stands_in_the_file_whatever_the_order(
    blob: bytes, writes: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "blob"
        sink = FileSink.open(path, len(blob))
        for start, size in writes:
            sink.write(start % len(blob), blob[start % len(blob) :][:size][::-1])
            if size == 1:
                sink.digest()
        assert sink.digest() == digest_of(path.read_bytes())
        sink.close()


def test_memory_sink_keeps_bytes_at_their_offsets() -> None:
    sink = MemorySink(5)
    sink.write(3, b"de")
    sink.write(0, memoryview(b"abc"))

    assert sink.buffer == b"abcde"
    assert sink.digest() == digest_of(b"abcde")


def test_file_sink_moves_with_its_bytes_and_takes_more(tmp_path: Path) -> None:
    sink = FileSink.open(tmp_path / "part", 5)
    sink.write(0, b"abc")
    sink.move(tmp_path / "whole", 4)
    sink.write(3, b"d")
    sink.close()

    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert (tmp_path / "whole").read_bytes() == b"abcd"


def test_closed_file_sink_says_which_file_is_closed(tmp_path: Path) -> None:
    sink = FileSink.open(tmp_path / "blob", 3)
    sink.close()
    sink.close()

    with pytest.raises(OSError, match=f"^{tmp_path}/blob is closed$"):
        sink.write(0, b"abc")
