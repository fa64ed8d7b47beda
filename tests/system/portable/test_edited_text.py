"""Texts that were typed on another system, read as they were meant."""

from __future__ import annotations

import pytest

from fedlp_edge.system.portable.edited_text import encoding_hint, environment_variable, first_line


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("/state", "/state"),
        ("/state\r", "/state"),
        ("/state\n", "/state"),
        ('"/state"', "/state"),
        ("'/my state'\r", "/my state"),
        ('"it\'s"', "it's"),
        ('"/state', '"/state'),
        ('"', '"'),
        ('""', ""),
        (" \r", ""),
        ("", ""),
    ],
)
def test_a_variable_is_read_without_what_a_file_of_variables_puts_around_it(value: str, meant: str) -> None:
    assert environment_variable("NAME", {"NAME": value}) == meant


def test_a_variable_that_is_not_set_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLP_NOTHING", raising=False)
    assert environment_variable("FEDLP_NOTHING") == ""


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"\xff\xfea\0", "UTF-16"),
        (b"\xfe\xff\0a", "UTF-16"),
        (b"a\0=\0", "UTF-16"),
        (b"\0a\0=", "UTF-16"),
        (b"a = 1", ""),
        (b"", ""),
        (b"\0\0\0\0", ""),
        (b"\xef\xbb\xbfa", ""),
        (b"a", ""),
    ],
)
def test_tells_utf_16_by_its_first_bytes(content: bytes, encoding: str) -> None:
    assert encoding_hint(content) == encoding


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret \r\nmore", "s3cret "),
        (b"\xef\xbb\xbfs3cret\n", "s3cret"),
        (b"", ""),
        (b"\n", ""),
        (b"\xef\xbb\xbf\r\n", ""),
    ],
)
def test_a_secret_is_the_first_line_as_it_was_typed(content: bytes, line: str) -> None:
    assert first_line(content) == line


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("s3cret".encode("utf-16"), "was saved as UTF-16; save"),
        ("schl\u00fcssel".encode("cp1252"), "is no UTF-8 text; save"),
    ],
)
def test_a_secret_in_another_encoding_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        first_line(content)
