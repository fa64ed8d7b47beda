"""This module brings times as programs write them into forms that pandas reads: names of time zones, and digits alone.

Names of zones have no offset of their own in any library, since some mean several. Within one file only the order of
times and their distances count, for which the usual meaning of a name is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_OFFSETS = {
    "WET": 0, "UT": 0, "WEST": 1, "BST": 1, "CET": 1, "MEZ": 1, "CEST": 2, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3,
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8,
    "HST": -10, "BRT": -3, "SAST": 2, "SGT": 8, "HKT": 8, "JST": 9, "KST": 9, "AWST": 8, "AEST": 10, "AEDT": 11,
    "NZST": 12, "NZDT": 13,
}  # fmt: skip
"""Hours ahead of UTC of zones with whole hours that programs name by letters."""

_NAMED_ZONE = rf"(\d:\d\d\S*(?: [AaPp][Mm])?) ?\b({'|'.join(_OFFSETS)})\b( \d{{4}})?$"
_ZONE_IN_BRACKETS = r"\[[\w/+-]+\]$"  # behind what Java calls a ZonedDateTime, whose offset goes before it
_COLON_BEFORE_CLOCK = r"^(\S+/\d{4}):(?=\d\d:\d\d)"  # in logs of web servers
_DOTTED_CLOCK = r"^(\S*\d[-./]\S*)\s+(\d{1,2})\.(\d{2})(?:\.(\d{2}))?(?=\s|$|\.\d)"

_DAYS = (19_000_101, 21_001_231)
"""First and last day that digits alone are taken for."""


def in_usual_form(texts: Any) -> Any:
    """Returns times as texts with an offset in place of the name of a zone, and with colons in their clock times.

    Args:
        texts: Column of pandas of any type; what is no text stays.
    """
    column = texts.astype("string")
    column = column.str.replace(_ZONE_IN_BRACKETS, "", regex=True)
    column = column.str.replace(_COLON_BEFORE_CLOCK, r"\1 ", regex=True)
    column = column.str.replace(
        _DOTTED_CLOCK, lambda found: f"{found[1]} {':'.join(filter(None, found.groups()[1:]))}", regex=True
    )
    return column.str.replace(
        _NAMED_ZONE, lambda found: f"{found[1]}{found[3] or ''} {_OFFSETS[found[2]]:+03d}:00", regex=True
    )


def seconds_of_digits(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Returns the seconds since 1970 of dates that are written in digits alone, as 20240131 or 202401311400.

    Args:
        times: Numbers [N]; NaN where a time is missing.

    Returns:
        Seconds [N], NaN where a time is missing; None unless all numbers are days, with hours, minutes and seconds or
        without.
    """
    given = times[np.isfinite(times)]
    for clock_digits in (0, 2, 4, 6):
        days, clocks = np.divmod(given, 10.0**clock_digits)
        if not len(given) or (clocks % 1).any() or (days < _DAYS[0]).any() or (days > _DAYS[1]).any():
            continue
        hours, rest = np.divmod(clocks * 10.0 ** (6 - clock_digits), 10_000)
        minutes, seconds = np.divmod(rest, 100)
        dates = _dates(days.astype(np.int64))
        if dates is None or (hours > 23).any() or (minutes > 59).any() or (seconds > 59).any():
            return None
        result = np.full(len(times), np.nan)
        result[np.isfinite(times)] = dates * 86_400.0 + hours * 3600 + minutes * 60 + seconds
        return result
    return None


def _dates(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Returns days since 1970 of days such as 20240131; None if a month has no such day."""
    month, day = days // 100 % 100, days % 100
    months = ((days // 10_000 - 1970) * 12 + month - 1).astype("datetime64[M]")
    dates = months.astype("datetime64[D]") + (day - 1)
    if (month < 1).any() or (month > 12).any() or (day < 1).any() or (dates.astype("datetime64[M]") != months).any():
        return None
    return dates.astype(np.int64)
