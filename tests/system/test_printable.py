from __future__ import annotations

import pytest

from fedlp_edge.system.printable import counted, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain line", "a plain line"),
        ("Grüße aus 東京", "Grüße aus 東京"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("one\ntwo\r\n", "one\\ntwo\\r\\n"),
        ("abc\u202edef\u200b", "abc\\u202edef\\u200b"),
        ("\x9b31m", "\\x9b31m"),
        ("x" * 30, "x" * 17 + "..."),
        ("\x00" * 30, "\\x00\\x00\\x00\\x00\\..."),
    ],
)
def test_what_controls_a_terminal_is_written_out_and_what_is_long_is_cut(text: str, shown: str) -> None:
    assert printable(text, 20 if len(text) == 30 else 100) == shown


def test_a_number_stands_with_what_it_counts() -> None:
    assert [counted(number, "file") for number in (0, 1, 1024)] == ["0 files", "1 file", "1,024 files"]
    assert counted(2, "entry", "entries") == "2 entries"
