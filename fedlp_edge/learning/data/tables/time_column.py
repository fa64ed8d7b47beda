"""This module reads the times of rows, dates of any form or numbers, and refuses what has no certain order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.time_forms import in_usual_form, seconds_of_digits

_CLOCK_TIME = r"\d:\d"
_TIME_ZONE = r"\d:\d.*?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)\s*$"
_EPOCH = (2e8, 5e9)
"""Seconds since 1970 that are taken for a date: the years 1976 to 2128."""
_EPOCH_UNITS = (("seconds", 1.0), ("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9))
_DOTTED_CLOCK = r"^\s*(\d{1,2})\.(\d{2})(?:\.(\d{2}))?\s*$"
_SLASHED_DATE = r"^\s*(\d{1,2})[/-](\d{1,2})[/-]\d{2,4}(?!\d)"
_NO_DATE = "0000-00-00"  # of MySQL
_MONTHS = 12
_HALF = 0.49


class TimeColumn:
    """Reads the column of times of one file, or a column of dates and one of clock times.

    Args:
        names: Names of the one or two columns.
        decimal: Decimal sign of the file.
        place: Function that returns where a row stands, for messages.
        frames: Function that reads the column of dates from the file, part by part.
    """

    def __init__(
        self, names: Sequence[str], decimal: str, place: Callable[[int], str], frames: Callable[[], Iterable[Any]]
    ) -> None:
        self._names = names
        self._name = " and ".join(names)
        self._decimal = decimal
        self._place = place
        self._frames = frames
        self._month_first: bool | None = None
        self._zoned: bool | None = None
        self._epoch_unit: int | None = None
        self._digits: bool | None = None

    def read(self, frame: Any, first: int) -> npt.NDArray[np.float64]:
        """Returns the times of successive rows, NaN where one is missing.

        Args:
            frame: Columns of the rows.
            first: Number of the first of these rows in the file.

        Raises:
            DataError: A field is neither a date nor a number, or the order of two times is uncertain.
        """
        column = self._joined(frame)
        gaps = np.asarray(column.isna(), np.bool_)
        if column.dtype.kind == "O":
            gaps = gaps | np.asarray(column.astype("string").str.startswith(_NO_DATE).fillna(False), np.bool_)
        if gaps.all():
            return np.full(len(column), np.nan)
        if gaps.any():
            column = column.where(~gaps).ffill().bfill()  # so that rows keep their places in messages
        times = self._times(column, first)
        return np.where(gaps, np.nan, times)

    def _joined(self, frame: Any) -> Any:
        """Returns the column of times; a date and a clock time in two columns become one text."""
        date, *clock = (frame[name] for name in self._names)
        if not clock:
            return date
        if getattr(date.dtype, "kind", "") == "M":
            date = date.dt.strftime("%Y-%m-%d")
        at = clock[0].astype("object").where(clock[0].notna(), "").astype(str)
        at = at.str.replace(_DOTTED_CLOCK, lambda found: ":".join(filter(None, found.groups())), regex=True)
        return (date.astype("object").astype(str) + " " + at).where(date.notna() & clock[0].notna())

    def _times(self, column: Any, first: int) -> npt.NDArray[np.float64]:
        import pandas  # noqa: PLC0415 - an extra

        if column.dtype.kind in "buif":
            return self._in_one_unit(np.asarray(column, np.float64), first)
        if column.dtype.kind != "M":
            text = column.astype("object")
            if self._decimal == ",":
                text = text.map(lambda value: value.replace(",", ".") if isinstance(value, str) else value)
            numbers = pandas.to_numeric(text, errors="coerce")
            if numbers.notna().all():
                return self._in_one_unit(np.asarray(numbers, np.float64), first)
            written, column = column, in_usual_form(column)
            self._check_zones(column, first)
            dates = pandas.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
            if dates.isna().any():
                day_first = not self._has_month_first(self._names[0])
                dates = pandas.to_datetime(column, format="mixed", dayfirst=day_first, errors="coerce", utc=True)
            bad = np.asarray(numbers.isna() if bool(numbers.notna().mean() > _HALF) else dates.isna())
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"{self._place(first + row)}: column {self._name!r} holds {str(written.iloc[row])[:40]!r}, "
                    "neither a date nor a number: write it as 2024-01-31 14:00:00, with an offset such as +02:00 if it "
                    "has a time zone"
                )
            column = dates
        if column.dt.tz is not None:
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(column.astype("datetime64[us]"), "datetime64[us]").astype(np.int64).astype(np.float64)

    def _in_one_unit(self, times: npt.NDArray[np.float64], first: int) -> npt.NDArray[np.float64]:
        """Returns times that are numbers, having checked that they are dates in one unit if all of them are dates.

        Dates in digits alone, as 20240131, become seconds.

        Raises:
            DataError: Some count seconds since 1970, say, and others milliseconds; or the file began with dates in
                digits, and one is none.
        """
        if self._digits is not False:
            seconds = seconds_of_digits(times)
            if seconds is None and self._digits:
                row = next(row for row in range(len(times)) if seconds_of_digits(times[row : row + 1]) is None)
                raise DataError(
                    f"{self._place(first + row)}: column {self._name!r} holds {times[row]:.0f}, which is no date, and "
                    "dates such as 20240131 before it: mend it"
                )
            self._digits = seconds is not None
            if seconds is not None:
                return seconds
        units = np.full(len(times), -1)
        for number, (_, in_a_second) in enumerate(_EPOCH_UNITS):
            units[(times >= _EPOCH[0] * in_a_second) & (times < _EPOCH[1] * in_a_second)] = number
        dates = units[np.isfinite(times)]
        # What merely grows large, such as a counter, passes through numbers that are a date in no unit.
        if not len(dates) or (dates < 0).any():
            return times
        if self._epoch_unit is None:
            self._epoch_unit = int(dates[0])
        if (odd := (units >= 0) & (units != self._epoch_unit)).any():
            row = int(np.argmax(odd))
            raise DataError(
                f"{self._place(first + row)}: column {self._name!r} holds {times[row]:.0f}, a time in "
                f"{_EPOCH_UNITS[units[row]][0]} since 1970, and others in {_EPOCH_UNITS[self._epoch_unit][0]}: write "
                "all in one unit"
            )
        return times

    def _check_zones(self, column: Any, first: int) -> None:
        """Checks that all times of the file have a time zone, or none has: otherwise nobody knows their order.

        Raises:
            DataError: Some have one, and others have none.
        """
        times = column[column.notna() & column.astype(str).str.contains(_CLOCK_TIME)]
        zoned = times.astype(str).str.contains(_TIME_ZONE)
        if not len(zoned):
            return
        if self._zoned is None:
            self._zoned = bool(zoned.iloc[0])
        if (odd := zoned[zoned != self._zoned]).size:
            row = int(odd.index[0]) - int(column.index[0])
            raise DataError(
                f"{self._place(first + row)}: column {self._name!r} holds {str(column.iloc[row])[:40]!r}, and "
                "other times with and without a time zone: write all with one, or all without"
            )

    def _has_month_first(self, name: str) -> bool:
        """Tells whether dates such as 01/31/2024 have the month first; if none tells, they have the day first."""
        if self._month_first is None:
            seen: dict[bool, int] = {}  # the first row that tells, by whether the month is first there
            first = 0
            for frame in self._frames():
                parts = frame[name].astype("string").str.extract(_SLASHED_DATE).astype("Float64")
                for number, month_first in ((0, False), (1, True)):
                    beyond = np.asarray((parts[number] > _MONTHS).fillna(False), np.bool_)
                    if beyond.any():
                        seen.setdefault(month_first, first + int(np.argmax(beyond)))
                first += len(frame)
            if len(seen) > 1:
                later = max(seen, key=lambda month_first: seen[month_first])
                order = ("month", "day") if later else ("day", "month")
                raise DataError(
                    f"{self._place(seen[later])}: column {name!r} has the {order[0]} first here and the {order[1]} "
                    "first elsewhere: write dates as 2024-01-31"
                )
            self._month_first = seen.get(True) is not None
        return self._month_first
