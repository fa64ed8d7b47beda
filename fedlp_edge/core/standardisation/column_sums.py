"""This module merges what sites report of their columns of numbers, so that a fleet agrees on the scale of each.

A site reports of each feature or target how many values it has, their mean and the sum of their squared distances from
that mean. These add up (Chan, Golub and LeVeque 1983) without the cancellation that sums of squares suffer from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

MAX_COLUMNS = 4096
"""Most columns in a report."""

_MAX_NAME = 200
_LARGEST = 1e300

Name = Annotated[str, msgspec.Meta(max_length=_MAX_NAME)]
Value = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
Columns = msgspec.Meta(max_length=MAX_COLUMNS)


class ColumnSums(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the columns of one site, or of several.

    Attributes:
        names: Names of the columns; empty if they have none.
        count: Number of values in each column.
        mean: Mean of each column.
        deviations: Sum of the squared distances from the mean, of each column.
    """

    names: Annotated[tuple[Name, ...], Columns] = ()
    count: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    mean: Annotated[tuple[Value, ...], Columns] = ()
    deviations: Annotated[tuple[Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)], ...], Columns] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviations) or len(self.names) not in (0, len(self.mean)):
            raise ValueError("each column needs a mean and a sum of deviations")

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each column; 1 of a column whose values are all equal."""
        return tuple(_scale(math.sqrt(sum_ / self.count)) if self.count else 1.0 for sum_ in self.deviations)

    def arranged(self, names: Sequence[str]) -> ColumnSums:
        """Returns the statistics with the columns in the order of some names, all of which must be there."""
        place_of = {name: place for place, name in enumerate(self.names)}
        places = [place_of[name] for name in names]
        return ColumnSums(
            names=tuple(names),
            count=self.count,
            mean=tuple(self.mean[place] for place in places),
            deviations=tuple(self.deviations[place] for place in places),
        )


def merged_columns(parts: Iterable[ColumnSums]) -> ColumnSums:
    """Merges statistics of the same columns, in the order in which they are given; one part at least."""
    first, *others = parts
    for part in others:
        first = _merged(first, part)
    return first


def _merged(one: ColumnSums, other: ColumnSums) -> ColumnSums:
    count = one.count + other.count
    if not count or not other.count:
        return one
    mean, deviations = [], []
    for a, b, in_a, in_b in zip(one.mean, other.mean, one.deviations, other.deviations, strict=True):
        mean.append(a + (b - a) * (other.count / count))
        deviations.append(in_a + in_b + (b - a) * (b - a) * (one.count * (other.count / count)))
    return ColumnSums(names=one.names, count=count, mean=tuple(mean), deviations=tuple(deviations))


def _scale(std: float) -> float:
    return std if math.isfinite(std) and std > 0 else 1.0
