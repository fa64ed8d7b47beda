"""Exact sums of numbers of any size, for the running statistics of a model.

A change of a weight is small, and one fixed scale serves all of them (``aggregation``). A running statistic is as large
as the data are: the variance of raw 16-bit counts is about 1e9, that of a scaled picture 0.1, and both may be in one
model. So here a sum has several *limbs* of 32 bits each, from 2^128 (all that float32 holds) down to 2^-64. Each number
is cut into whole multiples of the limbs' units, and these are added as 64-bit integers, which is exact and associative
like the sums of ``aggregation``. It takes six times the memory, for the few thousand numbers that are statistics.

What is cut is cut towards zero, so all limbs of a number that is not negative are not negative either, and so are their
sums: an average of variances is never below zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LIMB_BITS = 32
UNITS = tuple(2.0**exponent for exponent in range(96, -65, -LIMB_BITS))
"""What one count of each limb stands for, largest first; the rest of a number, below 2^-64, is left out."""


def zeros(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """An empty sum [limbs, *shape]."""
    return np.zeros((len(UNITS), *shape), dtype=np.int64)


def add(total: npt.NDArray[np.int64], values: npt.NDArray[np.float32], factor: float) -> None:
    """Adds ``values * factor`` to a sum.

    The product is rounded to float64, which depends on nothing but the two.

    Args:
        total: [limbs, *shape], changed in place; all factors added to it sum to 1 at most, so that no limb overflows.
        values: [*shape], finite.
        factor: Factor from 0 to 1.
    """
    rest = values.astype(np.float64) * factor
    for number, unit in enumerate(UNITS):
        count = np.trunc(rest / unit)
        total[number] += count.astype(np.int64)
        rest -= count * unit


def value(total: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What a sum [limbs, *shape] comes to, in float64."""
    result = np.zeros(total.shape[1:], dtype=np.float64)
    # The smallest first, so that they are not lost one by one beside the large ones.
    for limb, unit in zip(total[::-1], reversed(UNITS), strict=True):
        result += limb.astype(np.float64) * unit
    return result
