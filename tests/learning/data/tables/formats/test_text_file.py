"""Files of text: their encodings, and what is no text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.text_file import is_text, text_at_beginning


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("größe\n".encode(), "utf-8"),
        ("größe\n".encode("utf-8-sig"), "utf-8-sig"),
        ("größe\n".encode("cp1252"), "cp1252"),
        ("größe\n".encode("utf-16"), "utf-16"),
        ("größe\n".encode("utf-16-le"), "utf-16-le"),
        ("größe\n".encode("utf-16-be"), "utf-16-be"),
        ("größe\n".encode("utf-32"), "utf-32"),
        (gzip.compress("größe\n".encode(), mtime=0), "utf-8"),
    ],
)
def test_encoding_is_found_out(tmp_path: Path, content: bytes, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert text_at_beginning(path) == ("größe\n", encoding)


def test_line_of_zero_bytes_is_a_blank_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,2\n3,\0\0\n5,6\n")
    assert text_at_beginning(path) == ("a,b\n1,2\n\n5,6\n", "utf-8")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n", "is empty"),
        (b"PAR1\0\0", "is a Parquet file"),
        (b"\0\0\0\0", "holds zero bytes and nothing else, as a power cut leaves files: remove it"),
        (b"a,\0\0\n1,2\n", "is no text"),
        (b"PK\x03\x04...", "is an Excel workbook"),
        (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', "is JSON: write json:FILE"),
        (b'[{"a": 1, "b": 2}]', "is JSON: write json:FILE"),
        (b"ARROW1\0\0...", "is a Feather file"),
        (b"\x89HDF\r\n...", "is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n", "is a web page"),
        (gzip.compress(b"a;b\n1;2\n", mtime=0)[:12], "is compressed by gzip and cut short"),
        (gzip.compress(b"a;b\n1;2\n", mtime=0)[:10] + b"\xff" * 20, r"is compressed by gzip and damaged \(.*\): copy"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        text_at_beginning(path)


@pytest.mark.parametrize(("content", "told"), [(b"a,b\n", True), (b"a,b", False), (b"a\0\n", False)])
def test_text_has_lines_and_no_zero_bytes(tmp_path: Path, content: bytes, told: bool) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert is_text(path) is told
