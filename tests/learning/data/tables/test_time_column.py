"""Times of rows, as dates of any form or as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.time_column import TimeColumn


def read(**columns: Sequence[object]) -> list[float]:
    frame = pandas.DataFrame(columns)
    names = tuple(columns)
    return TimeColumn(names, ".", lambda row: f"t.csv:{row + 2}", lambda: [frame[[names[0]]]]).read(frame, 0).tolist()


def test_dates_keep_their_order_whatever_their_form() -> None:
    day, noon, next_day = read(at=["2024-01-01", "2024-01-01T12:00:00", "2024-01-02"])
    assert noon - day == next_day - noon == 12 * 3600 * 1e6


def test_a_date_and_a_clock_time_are_one_time() -> None:
    first, second = read(date=["31/01/2024", "01/02/2024"], clock=["23.30", "00.30"])
    assert second - first == 3600 * 1e6


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["1700000000", "1700000001000"], r"t\.csv:3: .* a time in milliseconds since 1970, and others in seconds"),
        (["2024-01-01 10:00Z", "2024-01-01 11:00"], r"t\.csv:3: .* and other times with and without a time zone"),
        (["2024-01-01", "soon"], r"t\.csv:3: column 'at' holds 'soon', neither a date nor a number"),
        (["13/01/2024", "01/31/2024"], r"t\.csv:3: column 'at' has the month first here and the day first elsewhere"),
    ],
)
def test_times_whose_order_is_uncertain_are_refused_with_their_row(times: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(at=times)
