"""Columns and rows of CSV files, as pandas reads them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fedlp_edge.learning.data.tables.formats.csv_table import CsvTable

NONE: frozenset[str] = frozenset()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return path


def test_columns_of_numbers_lists_and_units_are_told_by_the_first_rows(tmp_path: Path) -> None:
    table = CsvTable(written(tmp_path, "n,word,list,size,\n1,a,70 80,2 kg,5\nERR,b,90 91,3 kg,6\n"), gap_words=("ERR",))
    assert (table.columns, table.numbers) == (("n", "word", "list", "size"), {"n", ""})
    assert table.lists(("word", "list", "size")) == ("list",)
    assert table.units(("word", "list", "size")) == {"size": "2 kg"}
    assert table.unnamed == (5,)


def test_texts_keep_words_that_are_gaps_among_numbers_and_times_stay_as_they_stand(tmp_path: Path) -> None:
    table = CsvTable(written(tmp_path, "t,n,word\n007, NA,NA\n"))
    (frame,) = table.frames(["t", "n", "word"], frozenset({"word"}), frozenset({"t"}))
    assert frame["t"].tolist() == ["007"]
    assert math.isnan(frame["n"][0])
    assert frame["word"].tolist() == ["NA"]


def test_names_that_stand_in_the_file_again_are_counted_by_the_last_pass(tmp_path: Path) -> None:
    table = CsvTable(written(tmp_path, "n,word\n1,a\nn,word\n2,b\nn,word\n"))
    for _ in range(2):
        (frame,) = table.frames(["n", "word"], NONE, NONE)
        assert (frame["n"].tolist(), table.headers) == (["1", "2"], 2)
    assert table.place(1).endswith("t.csv:4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("made by x\nn,word\n1,a\n", ", but line 2 names it: remove the lines above that"),
        ("n word z\na b c\n", ": fields are separated by a comma, semicolon, tab or |, by blanks only among numbers"),
        ("n,z\n1,2\n", ""),
    ],
)
def test_hint_tells_where_a_column_may_be_named(tmp_path: Path, text: str, words: str) -> None:
    assert CsvTable(written(tmp_path, text)).hint("word") == words
