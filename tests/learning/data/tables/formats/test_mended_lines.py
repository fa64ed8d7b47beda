"""Lines with zero bytes are replaced, and all others stay as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fedlp_edge.learning.data.tables.formats import mended_lines
from fedlp_edge.learning.data.tables.formats.mended_lines import MendedLines, is_blank


@pytest.mark.parametrize(
    ("content", "count", "read"),
    [
        (b"1,2\n3,4", 0, b"1,2\n3,4"),
        (b"1,2\n3\0\0\n5,6\n", 1, b"1,2\n,\n5,6\n"),
        (b"1,2\n\0\0", 1, b"1,2\n,\n"),
        (b"\0\n\0 7\n", 2, b",\n,\n"),
    ],
)
def test_a_line_with_mended_lines_becomes_another_one(content: bytes, count: int, read: bytes) -> None:
    file = MendedLines(io.BytesIO(content), b",")
    assert file.read() == read
    assert file.zeroed == count


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_that_lie_across_what_is_read_at_once_stay_whole(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    lines = [b"1,2", b"33,444", b"", b"5,6666666", b"7"]
    for size in range(1, 24):
        monkeypatch.setattr(mended_lines, "_CHUNK", size)
        assert MendedLines(io.BytesIO(end.join(lines)), b",").read() == end.join(lines)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_zero_bytes_are_found_wherever_a_line_is_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(mended_lines, "_CHUNK", size)
    file = MendedLines(io.BytesIO(b"1,2\n33,\0\0\0\n\0,4\n5,6\n"), b",")
    assert file.read() == b"1,2\n,\n,\n5,6\n"
    assert file.zeroed == 2


def test_a_file_of_mended_lines_is_as_blank_as_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for content, blank in ((b"", True), (b"\0" * 9, True), (b"\0\0x", False)):
        path.write_bytes(content)
        assert is_blank(path) is blank
    assert not is_blank(tmp_path / "missing.csv")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_sign_at_the_ends_of_lines_is_left_out_and_none_within(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(mended_lines, "_CHUNK", size)
    file = MendedLines(io.BytesIO(b"1,a;b;\n2,c; \r\n3,d\n4,e;"), b",", b";")
    assert file.read() == b"1,a;b\n2,c\r\n3,d\n4,e"
