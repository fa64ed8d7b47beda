from __future__ import annotations

import sys

import pytest

from fedlp_edge.system.portable.shell_words import quoted, quoted_command


@pytest.mark.parametrize(
    ("platform", "word", "shown"),
    [
        ("linux", "runs/my run", "'runs/my run'"),
        ("darwin", "runs/a", "runs/a"),
        ("win32", r"runs\my run", r'"runs\my run"'),
        ("win32", r"C:\runs\a", r"C:\runs\a"),
    ],
)
def test_word_is_quoted_as_the_shell_takes_it(
    platform: str, word: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert quoted(word) == shown
    assert quoted_command(["infer", word]) == f"infer {shown}"
