"""Lines with zero bytes are replaced, and all others stay as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fedlp_edge.learning.data.tables.zero_bytes import is_blank, without_zeros, zeroed_lines


@pytest.mark.parametrize(
    ("content", "count", "read"),
    [
        (b"1,2\n3,4", 0, b"1,2\n3,4"),
        (b"1,2\n3\0\0\n5,6\n", 1, b"1,2\n,\n5,6\n"),
        (b"1,2\n\0\0", 1, b"1,2\n,\n"),
        (b"\0\n\0 7\n", 2, b",\n,\n"),
    ],
)
def test_a_line_with_zero_bytes_becomes_another_one(content: bytes, count: int, read: bytes) -> None:
    assert zeroed_lines(io.BytesIO(content)) == count
    assert without_zeros(io.BytesIO(content), b",").read() == read


def test_a_file_of_zero_bytes_is_as_blank_as_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for content, blank in ((b"", True), (b"\0" * 9, True), (b"\0\0x", False)):
        path.write_bytes(content)
        assert is_blank(path) is blank
    assert not is_blank(tmp_path / "missing.csv")
