"""What stands above the rows of CSV files: comments, names and units."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.csv_header import (
    column_names,
    column_numbers,
    count_lines_of_units,
    is_header,
    without_comments,
)

PATH = Path("t.csv")


def test_columns_may_be_called_by_numbers() -> None:
    assert column_names((("400.5", "401.0", "401.5", "y"), ("1", "2", "3", "x")), PATH, 1)[0] == "400.5"
    assert column_names((("0", "1", "2", "y"), ("1", "2", "3", "x")), PATH, 1)[2] == "2"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (("1", "2"), ("3", "4"), "t.csv:3: the first line holds numbers, not the names"),
        (("7.6", "6.8", "x"), ("3.1", "4.4", "y"), "t.csv:3: the first line holds numbers, not the names"),
        (
            ("39", "Private"),
            ("50", "Private"),
            "t.csv:3: the first line holds numbers and 'Private', which stands below",
        ),
        (("a", "a"), ("1", "2"), "t.csv:3: columns 1 and 2 are both called 'a': rename one"),
    ],
)
def test_values_and_equal_names_are_refused(first: tuple[str, ...], second: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DataError) as refused:
        column_names((first, second), PATH, 3)
    assert str(refused.value).startswith(reason)


def test_columns_without_names_have_their_numbers() -> None:
    assert column_numbers((("1", "2", "ok", ""), ("1", "2", "3", ""))) == ("1", "2", "3", "")


def test_names_that_come_again_are_told_from_rows() -> None:
    assert is_header(("\ufefftime ", "x"), ("time", "x"))
    assert not is_header(("time", "1"), ("time", "x"))


@pytest.mark.parametrize(
    ("text", "above", "below"),
    [
        ("# by hand\n\na,b\n1,2\n", 2, "a,b\n1,2\n"),
        ("# a,b\n1,2\n", 0, "# a,b\n1,2\n"),  # the comment names the columns
        ("a,b\n1,2\n", 0, "a,b\n1,2\n"),
    ],
)
def test_comments_stand_above_names(text: str, above: int, below: str) -> None:
    assert without_comments(text, named=True) == (above, below)


@pytest.mark.parametrize(
    ("below", "count"),
    [((("C", "%"), ("1", "2"), ("3", "4")), 1), ((("C", "%"), ("avg", "avg"), ("1", "2")), 2), ((("C", "2"),), 0)],
)
def test_units_stand_below_names(below: tuple[tuple[str, ...], ...], count: int) -> None:
    assert count_lines_of_units((("t", "h"), *below, ("5", "6"), ("7", "8"))) == count
