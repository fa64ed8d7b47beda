"""How CSV files are written, found out from the files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.csv_format import CsvFormat, find_format
from fedlp_edge.learning.data.tables.formats.csv_rows import rows_of


def form(path: Path, content: bytes) -> CsvFormat:
    path.write_bytes(content)
    return find_format(path)


@pytest.mark.parametrize(
    ("content", "signs"),
    [
        (b"a,b\n1.5,2\n", ("utf-8", ",", ".")),
        (b"a;b\n1,5;2\n", ("utf-8", ";", ",")),
        (b"a;b\n1.234,5;2\n", ("utf-8", ";", ",")),
        (b"a;b\n1,234;2.5\n", ("utf-8", ";", ".")),
        (b'a,b\n"1,234",2\n', ("utf-8", ",", ".")),
        ("a;b\n1;2\n".encode("utf-16-le"), ("utf-16-le", ";", ".")),
        ("a;b\n1;2\n".encode("utf-32"), ("utf-32", ";", ".")),
        # Without a time, which would tell apart the tests that two processes collect within different seconds.
        (gzip.compress(b"a;b\n1,5;2\n", mtime=0), ("utf-8", ";", ",")),
        (b"\xef\xbb\xbfa\tb\n1\t2\n", ("utf-8-sig", "\t", ".")),
        ("a;b\n1;2\n".encode("utf-16"), ("utf-16", ";", ".")),
        (b"sep=|\r\na|b\r\n1|2\r\n", ("utf-8", "|", ".")),
        ("größe;b\n1;2\n".encode("cp1252"), ("cp1252", ";", ".")),
    ],
)
def test_signs_are_found_out(tmp_path: Path, content: bytes, signs: tuple[str, str, str]) -> None:
    found = form(tmp_path / "t.csv", content)
    assert (found.encoding, found.delimiter, found.decimal) == signs
    assert len(found.columns) == 2
    assert found.columns[1] == "b"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1,2\n3,4\n", ":1: the first line holds numbers"),
        (b"7.6,6.8,x\n3.1,4.4,y\n", ":1: the first line holds numbers"),
        (b"39, Private, 13\n50, State-gov, 9\n38, Private, 7\n", ":1: the first line holds numbers and 'Private'"),
        (b"a,a\n1,2\n", ":1: columns 1 and 2 are both called 'a'"),
    ],
)
def test_a_first_line_that_names_no_columns_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        form(tmp_path / "t.csv", content)


def test_without_a_line_of_names_columns_go_by_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"# made by hand\n1,2,ok,\n1,2,3,\n")
    found = find_format(path, named=False)
    assert (found.columns, found.header_lines, found.named) == (("1", "2", "3", ""), 1, False)
    assert [row for _, row in rows_of(path, found)] == [["1", "2", "ok", ""], ["1", "2", "3", ""]]


def test_a_table_with_blanks_may_have_names(tmp_path: Path) -> None:
    found = form(tmp_path / "t.dat", b"time   temperature\n0.0  21.5\n0.5  21.75\n")
    assert (found.columns, found.rows) == (("time", "temperature"), (("0.0", "21.5"), ("0.5", "21.75")))


def test_a_header_longer_than_what_is_read_at_first_is_whole(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(60_000)]
    assert form(tmp_path / "t.csv", ",".join(names).encode() + b"\n1,2\n").columns == tuple(names)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_semicolons_behind_rows_that_commas_separate_are_no_part_of_the_last_field(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"user,x,z{end}33,-0.69,0.5;{end}33,5.01,-11.2;{end}".replace("z", "z;"), newline="")
    found = find_format(path)
    assert (found.columns, found.line_end) == (("user", "x", "z"), ";")
    assert found.rows == (("33", "-0.69", "0.5"), ("33", "5.01", "-11.2"))
    assert [row for _, row in rows_of(path, found)] == [["33", "-0.69", "0.5"], ["33", "5.01", "-11.2"]]
