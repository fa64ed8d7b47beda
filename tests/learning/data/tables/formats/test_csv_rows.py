"""Rows of CSV files, read by the form that was found out."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.csv_format import CsvFormat, find_format
from fedlp_edge.learning.data.tables.formats.csv_rows import ends_within_a_line, line_of, rows_of


def form(path: Path, content: bytes) -> CsvFormat:
    path.write_bytes(content)
    return find_format(path)


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    found = form(path, b"a,b\n1,2\n\n3,4\n")
    assert list(rows_of(path, found)) == [(2, ["1", "2"]), (4, ["3", "4"])]
    assert line_of(path, found, 1) == 4


def test_file_that_is_damaged_behind_its_first_rows_is_refused_where_it_is_read(tmp_path: Path) -> None:
    text = b"a;b\n" + b"".join(b"%d;%d\n" % (number, number * 7919) for number in range(60_000))
    whole = gzip.compress(text, mtime=0)
    path = tmp_path / "t.csv"
    found = form(path, whole[:-8] + b"\0" * 8)
    with pytest.raises(DataError, match=r"^.*t\.csv is compressed by gzip and damaged \(.*\): copy it again$"):
        list(rows_of(path, found))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^.*t\.csv is compressed by gzip and cut short: copy it again$"):
        list(rows_of(path, found))


@pytest.mark.parametrize(("content", "cut"), [(b"a,b\n1,2\n", False), (b"a,b\n1,2", True), (b"a,b\n1,2\n3\0\0", False)])
def test_last_line_without_an_end_is_seen(tmp_path: Path, content: bytes, cut: bool) -> None:
    path = tmp_path / "t.csv"
    found = form(path, content)
    assert ends_within_a_line(path, found) is cut
    path.write_bytes(gzip.compress(content, mtime=0))
    assert ends_within_a_line(path, found) is False
