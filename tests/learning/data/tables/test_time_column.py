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


def test_names_of_time_zones_and_dates_in_digits_are_times() -> None:
    summer, winter = read(at=["2024-10-27 02:30:00 CEST", "2024-10-27 02:30:00 CET"])
    assert winter - summer == 3600 * 1e6
    last, midnight = read(at=[2024022923, 2024030100])
    assert midnight - last == 3600


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["2024-01-01 10:00 CET", "2024-01-01 11:00"], r"t\.csv:3: .* and other times with and without a time zone"),
        (["2024-01-01 10:00 XYZT"], r"holds '2024-01-01 10:00 XYZT', neither .* with an offset such as \+02:00 if"),
        (["1700000000", "1700000001000"], r"t\.csv:3: .* a time in milliseconds since 1970, and others in seconds"),
        (["2024-01-01 10:00Z", "2024-01-01 11:00"], r"t\.csv:3: .* and other times with and without a time zone"),
        (["2024-01-01", "soon"], r"t\.csv:3: column 'at' holds 'soon', neither a date nor a number"),
        (["13/01/2024", "01/31/2024"], r"t\.csv:3: column 'at' has the month first here and the day first elsewhere"),
    ],
)
def test_times_whose_order_is_uncertain_are_refused_with_their_row(times: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(at=times)


def test_a_number_after_dates_in_digits_is_refused() -> None:
    frame = pandas.DataFrame({"at": [20240131, 20240201]})
    times = TimeColumn(("at",), ".", lambda row: f"t.csv:{row + 2}", lambda: [frame])
    times.read(frame, 0)
    with pytest.raises(DataError, match=r"t\.csv:5: column 'at' holds 20240299, which is no date, and dates such as"):
        times.read(pandas.DataFrame({"at": [20240202, 20240299]}), 2)
