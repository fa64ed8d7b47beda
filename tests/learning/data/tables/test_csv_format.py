"""How CSV files are written, found out from the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.csv_format import CsvFormat, find_format, is_number, line_of, rows_of


def form(path: Path, content: bytes) -> CsvFormat:
    path.write_bytes(content)
    return find_format(path)


@pytest.mark.parametrize(
    ("content", "signs"),
    [
        (b"a,b\n1.5,2\n", ("utf-8", ",", ".", "")),
        (b"a;b\n1,5;2\n", ("utf-8", ";", ",", "")),
        (b"a;b\n1.234,5;2\n", ("utf-8", ";", ",", ".")),
        (b"\xef\xbb\xbfa\tb\n1\t2\n", ("utf-8-sig", "\t", ".", "")),
        ("a;b\n1;2\n".encode("utf-16"), ("utf-16", ";", ".", "")),
        (b"sep=|\r\na|b\r\n1|2\r\n", ("utf-8", "|", ".", "")),
        ("größe;b\n1;2\n".encode("cp1252"), ("cp1252", ";", ".", "")),
    ],
)
def test_signs_are_found_out(tmp_path: Path, content: bytes, signs: tuple[str, str, str, str]) -> None:
    found = form(tmp_path / "t.csv", content)
    assert (found.encoding, found.delimiter, found.decimal, found.thousands) == signs
    assert len(found.columns) == 2
    assert found.columns[1] == "b"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n", "is empty"),
        (b"PAR1\0\0", "is no text"),
        (b"1,2\n3,4\n", ":1: the first line holds numbers"),
        (b"a,a\n1,2\n", ":1: columns 1 and 2 are both called 'a'"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        form(tmp_path / "t.csv", content)


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    found = form(path, b"a,b\n1,2\n\n3,4\n")
    assert list(rows_of(path, found)) == [(2, ["1", "2"]), (4, ["3", "4"])]
    assert line_of(path, found, 1) == 4


@pytest.mark.parametrize(("text", "number"), [("1,5", True), ("-2e3", True), ("TRUE", True), ("1.2.3", False)])
def test_numbers_are_told_with_either_decimal_sign(text: str, number: bool) -> None:
    assert is_number(text) == number
