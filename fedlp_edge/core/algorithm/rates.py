"""At which rates a device's units are preserved: fixed, by importance, within a budget of bytes.

The draw itself is in ``selection``; here its rates ``p_k,l`` are made, each step a function from rates to rates. All
rates are shares between 0 and 1, by unit id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

MIN_RATE = 0.1
"""What importance leaves to every unit, where its own rate is not lower still: rates below it starve layers."""

MIN_IMPORTANCE = 1e-6
"""Of a unit, as a share of the greatest: one that did not change at all can still take what the others leave."""


def expected_bytes(rates: Mapping[str, float], nbytes: Mapping[str, int]) -> float:
    """Bytes that a device is expected to send."""
    return sum(rate * nbytes[unit] for unit, rate in rates.items())


def by_importance(
    rates: Mapping[str, float], nbytes: Mapping[str, int], changes: Mapping[str, float]
) -> dict[str, float]:
    """Distributes the bytes of the given rates anew: more often what changes much for its size.

    The new rates are ``clip(c * s_l / b_l, least_l, 1)``, with the one ``c`` that leaves the expected bytes as they
    were (water-filling).

    Args:
        rates: Rates that would be used without importance.
        nbytes: ``b_l``, bytes of each unit in an update.
        changes: ``s_l``, last relative change by unit id. A unit that has none yet counts as much as the most
            important one; if no unit has one, the rates stay as they are.
    """
    known = {unit: changes[unit] / nbytes[unit] for unit in rates if unit in changes}
    greatest = max(known.values(), default=0.0)
    if not greatest > 0:
        return dict(rates)
    importance = {unit: max(known.get(unit, greatest) / greatest, MIN_IMPORTANCE) for unit in rates}
    least = {unit: min(MIN_RATE, rate) for unit, rate in rates.items()}
    target = expected_bytes(rates, nbytes)

    def filled(level: float) -> dict[str, float]:
        return {unit: min(1.0, max(least[unit], level * importance[unit])) for unit in rates}

    def spent(level: float) -> float:
        return expected_bytes(filled(level), nbytes)

    # Between two levels at which a unit leaves its least rate or reaches 1, the bytes are a straight line.
    bends = sorted({0.0, *(edge / importance[unit] for unit in rates for edge in (least[unit], 1.0))})
    upper = min(bisect_left(bends, target, key=spent), len(bends) - 1)
    high = bends[upper]
    if upper == 0 or spent(high) <= target:
        return filled(high)
    low = bends[upper - 1]
    share = (target - spent(low)) / (spent(high) - spent(low))
    return filled(low + share * (high - low))


def within_budget(rates: Mapping[str, float], nbytes: Mapping[str, int], budget: int) -> dict[str, float]:
    """Scales rates down, all by the same factor, so that the expected bytes fit.

    Args:
        rates: Rates that would be used without a budget.
        nbytes: Bytes of each unit in an update.
        budget: Bytes that a device may be expected to send.
    """
    expected = expected_bytes(rates, nbytes)
    if expected <= budget:
        return dict(rates)
    return {unit: rate * budget / expected for unit, rate in rates.items()}
