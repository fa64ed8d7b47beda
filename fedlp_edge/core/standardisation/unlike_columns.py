"""This module finds columns whose values have another size on one site than on the others, as in another unit.

A fleet has one scale for each column. Where one device writes millivolts and all others volts, the others' values
shrink to nothing on that scale, and the model learns little without any error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from fedlp_edge.core.standardisation.column_sums import ColumnSums

_UNLIKE = 50.0  # times; units differ by a hundred or a thousand, machines of one kind by less
_ENOUGH_VALUES = 10


@dataclass(frozen=True, slots=True)
class UnlikeColumn:
    """A column whose values and their spread are both many times as large as on most other sites, or as small.

    Attributes:
        name: Name of the column.
        mean: Mean of the site's values.
        usual: Low median of the means of the other sites.
    """

    name: str
    mean: float
    usual: float

    def __str__(self) -> str:
        return f'"{self.name[:40]}" (mean {self.mean:.3g}, elsewhere {self.usual:.3g})'


def unlike_columns(own: ColumnSums, others: Sequence[ColumnSums]) -> list[UnlikeColumn]:
    """Returns the columns of a site that look as if they had another unit than those of other sites.

    Args:
        own: Statistics of the site.
        others: Statistics of the other sites; those with other columns say nothing. Of two sites in all, only the one
            with the larger values is unlike.
    """
    comparable = [part for part in others if set(part.names) == set(own.names) and part.count >= _ENOUGH_VALUES]
    if not comparable or own.count < _ENOUGH_VALUES:
        return []
    arranged = [part.arranged(own.names) for part in comparable]
    found = []
    for place, name in enumerate(own.names):
        mine = _spread_and_size(own, place)
        theirs = [_spread_and_size(part, place) for part in arranged]
        larger = sum(_exceeds(mine, other) for other in theirs)
        smaller = sum(_exceeds(other, mine) for other in theirs) if len(theirs) > 1 else 0
        if 2 * max(larger, smaller) > len(theirs):  # with one odd site among three, the others differ from half
            found.append(UnlikeColumn(name, own.mean[place], median_low(part.mean[place] for part in arranged)))
    return found


def _exceeds(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Tells whether spread and size are both many times the other's; a sensor that never changes tells nothing."""
    return other[0] > 0 and all(_UNLIKE * theirs < mine < math.inf for mine, theirs in zip(one, other, strict=True))


def _spread_and_size(part: ColumnSums, place: int) -> tuple[float, float]:
    """Returns the standard deviation and the root mean square of a column."""
    spread = math.sqrt(part.deviations[place] / part.count)
    return spread, math.hypot(part.mean[place], spread)
