"""Times in the forms of programs that write logs."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.data.tables.time_forms import in_usual_form, seconds_of_digits

pandas = pytest.importorskip("pandas")


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("2024-10-27 02:30:00 CEST", "2024-10-27 02:30:00 +02:00"),
        ("2024-10-27 02:30:00 CET", "2024-10-27 02:30:00 +01:00"),
        ("Apr 01, 2020 04:29:53.15 PM EDT", "Apr 01, 2020 04:29:53.15 PM -04:00"),
        ("Fri Oct 25 00:00:00 CEST 2024", "Fri Oct 25 00:00:00 2024 +02:00"),
        ("2024-10-25T00:00+02:00[Europe/Berlin]", "2024-10-25T00:00+02:00"),
        ("25/Oct/2024:13:55:36 +0200", "25/Oct/2024 13:55:36 +0200"),
        ("25.10.2024 8.05", "25.10.2024 8:05"),
        ("25-OCT-24 08.05.59.125 AM", "25-OCT-24 08:05:59.125 AM"),
        ("2024-10-25 08:05:59", "2024-10-25 08:05:59"),
        ("8.05", "8.05"),
    ],
)
def test_times_get_the_usual_form(written: str, usual: str) -> None:
    column = in_usual_form(pandas.Series([written]))
    assert column.tolist() == [usual]
    if written != "8.05":
        assert pandas.to_datetime(column, format="mixed", dayfirst=True, utc=True).notna().all()


@pytest.mark.parametrize(
    ("digits", "written"),
    [
        (20240229, "2024-02-29"),
        (2024022923, "2024-02-29T23:00:00"),
        (202402292359, "2024-02-29T23:59:00"),
        (20240229235958, "2024-02-29T23:59:58"),
        (19000101, "1900-01-01"),
    ],
)
def test_digits_that_are_dates_become_seconds(digits: int, written: str) -> None:
    seconds = seconds_of_digits(np.array([np.nan, digits]))
    assert seconds is not None
    assert np.isnan(seconds[0])
    assert seconds[1] == np.datetime64(written, "s").astype(np.int64)


@pytest.mark.parametrize(
    "numbers",
    [[20230229], [20240001], [20241301], [2024022924], [202402292360], [20240229.5], [1729814400], [1], [np.nan], []],
)
def test_other_numbers_are_no_dates(numbers: list[float]) -> None:
    assert seconds_of_digits(np.array(numbers, np.float64)) is None


def test_dates_of_two_forms_are_none() -> None:
    assert seconds_of_digits(np.array([20240229, 2024022923.0])) is None
