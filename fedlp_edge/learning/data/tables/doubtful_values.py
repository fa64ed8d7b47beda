"""This module finds numbers in a column that are probably none: marks of gaps, and what a failed sensor gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MARKS = (-999.0, -9999.0, -99999.0, -999.9, -999.99, -9999.9, 9999.0, 99999.0, 999999.0, 9999.9, -32768.0, 65535.0)
"""Numbers that loggers, weather services and databases write for a missing value."""
_MARKED = 2
"""Times that such a number occurs at least, to be taken for a mark."""
_FEW, _FAR = 20, 1000
"""Values from which on one is called far, and how many times the width of the others it is away from them."""


def mark_of_gaps(values: npt.NDArray[Any]) -> float | None:
    """Returns the number that looks like a mark of gaps: a usual one, farther from the rest than the rest is wide.

    Args:
        values: Values of a column, [n].
    """
    rest = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(rest) or rest.dtype.kind not in "uif":
        return None
    for mark in (float(rest.min()), float(rest.max())):
        if mark in _MARKS:
            others = rest[rest != mark]
            if len(others) and len(rest) - len(others) >= _MARKED:
                low, high = float(others.min()), float(others.max())
                if (low - mark if mark < low else mark - high) > high - low:
                    return mark
    return None


def far_value(values: npt.NDArray[Any]) -> float | None:
    """Returns the value that lies a thousand times farther from the usual ones than these are wide; None if none does.

    A sensor that fails once gives such a value, and mean and deviation of the column then are its own.

    Args:
        values: Values of a column, [n].
    """
    there = values[np.isfinite(values)] if values.dtype.kind in "uif" else np.empty(0)
    if len(there) < _FEW:
        return None
    low, middle, high = np.percentile(there, (5, 50, 95)).tolist()
    worst = float(there[np.argmax(np.abs(there - middle))])
    return worst if high > low and abs(worst - middle) > _FAR * (high - low) else None
