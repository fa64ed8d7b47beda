"""How CSV files are written, found out from the files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.csv_format import (
    CsvFormat,
    find_format,
    line_of,
    rows_of,
)


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
        (b" \n", "is empty"),
        (b"PAR1\0\0", "is a Parquet file"),
        (b"1,2\n3,4\n", ":1: the first line holds numbers"),
        (b"7.6,6.8,x\n3.1,4.4,y\n", ":1: the first line holds numbers"),
        (b"\0\0\0\0", "holds zero bytes and nothing else, as a power cut leaves files: remove it"),
        (b"a,\0\0\n1,2\n", "is no text"),
        (b"PK\x03\x04...", "is an Excel workbook"),
        (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', "is JSON: write json:FILE"),
        (b'[{"a": 1, "b": 2}]', "is JSON: write json:FILE"),
        (b"39, Private, 13\n50, State-gov, 9\n38, Private, 7\n", ":1: the first line holds numbers and 'Private'"),
        (b"ARROW1\0\0...", "is a Feather file"),
        (b"\x89HDF\r\n...", "is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n", "is a web page"),
        (gzip.compress(b"a;b\n1;2\n", mtime=0)[:12], "is compressed by gzip and cut short"),
        (gzip.compress(b"a;b\n1;2\n", mtime=0)[:10] + b"\xff" * 20, r"is compressed by gzip and damaged \(.*\): copy"),
        (b"a,a\n1,2\n", ":1: columns 1 and 2 are both called 'a'"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        form(tmp_path / "t.csv", content)


def test_without_a_line_of_names_columns_go_by_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"# made by hand\n1,2,ok,\n1,2,3,\n")
    found = find_format(path, named=False)
    assert (found.columns, found.header_lines, found.named) == (("1", "2", "3", ""), 1, False)
    assert [row for _, row in rows_of(path, found)] == [["1", "2", "ok", ""], ["1", "2", "3", ""]]


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        (b" 1.5e+00  -2.0e-01 3 \n 2.5e+00 -1.0e-01\t4\n", " "),
        (b"1,5 2,5 3\n3,5 4,5 5\n", " "),
        (b'18.0   8   307.0\t"chevrolet malibu"\n15.0   8   350.0\t"buick skylark 320"\n', " "),
        (b"1 234\t5 678\n2 345\t6 789\n", "\t"),
        (b"1, 2, so so\n3, 4, so\n", ","),
        (b"so far\nso good\n", ","),
        (b"1\n2\n", ","),
    ],
)
def test_blanks_separate_numbers_where_nothing_else_does(tmp_path: Path, content: bytes, delimiter: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    assert find_format(path, named=False).delimiter == delimiter


def test_a_table_with_blanks_may_have_names(tmp_path: Path) -> None:
    found = form(tmp_path / "t.dat", b"time   temperature\n0.0  21.5\n0.5  21.75\n")
    assert (found.columns, found.rows) == (("time", "temperature"), (("0.0", "21.5"), ("0.5", "21.75")))


def test_columns_may_be_called_by_numbers(tmp_path: Path) -> None:
    assert form(tmp_path / "t.csv", b"400.5,401.0,401.5,y\n1,2,3,x\n").columns[0] == "400.5"
    assert form(tmp_path / "t.csv", b"0,1,2,y\n1,2,3,x\n").columns[2] == "2"


def test_a_header_longer_than_what_is_read_at_first_is_whole(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(60_000)]
    assert form(tmp_path / "t.csv", ",".join(names).encode() + b"\n1,2\n").columns == tuple(names)


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    found = form(path, b"a,b\n1,2\n\n3,4\n")
    assert list(rows_of(path, found)) == [(2, ["1", "2"]), (4, ["3", "4"])]
    assert line_of(path, found, 1) == 4


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_semicolons_behind_rows_that_commas_separate_are_no_part_of_the_last_field(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"user,x,z{end}33,-0.69,0.5;{end}33,5.01,-11.2;{end}".replace("z", "z;"), newline="")
    found = find_format(path)
    assert (found.columns, found.line_end) == (("user", "x", "z"), ";")
    assert found.rows == (("33", "-0.69", "0.5"), ("33", "5.01", "-11.2"))
    assert [row for _, row in rows_of(path, found)] == [["33", "-0.69", "0.5"], ["33", "5.01", "-11.2"]]


def test_semicolons_that_end_few_lines_or_separate_fields_stay(tmp_path: Path) -> None:
    assert form(tmp_path / "t.csv", b"a,b\n1,x;\n2,y\n3,z\n").line_end == ""
    assert form(tmp_path / "t.csv", b"a;b;\n1;2;\n").line_end == ""


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
