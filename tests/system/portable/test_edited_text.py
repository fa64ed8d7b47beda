"""Texts that were typed on another system, read as they were meant."""

from __future__ import annotations

import pytest

from fedlp_edge.system.portable.edited_text import encoding_hint, environment_variable


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
