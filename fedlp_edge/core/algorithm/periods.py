"""Units that are exchanged every so many rounds and stay on their device in between.

In the manner of L-FGADMM and FedLAMA (arXiv 2110.10302): a unit with period ``m`` is sent in the rounds ``m, 2m, 3m``
and so on. The rounds up to and including one of these make a *stretch*. Within a stretch the global value does not
change; a device starts each round from its own value of the unit if it made one earlier in the same stretch, and from
the global value otherwise, so that all devices start every stretch from the common value. What it sends at the end is
its own value minus the global one: the change of the whole stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def is_due(period: int, round: int) -> bool:
    """Whether a unit of this period is sent in a round."""
    return round % period == 0


def period_start(period: int, round: int) -> int:
    """The first round of the stretch that a round belongs to: everybody downloads the unit then."""
    return round - (round - 1) % period


def withheld_units(every: Mapping[str, int], units: Iterable[str], round: int) -> tuple[str, ...]:
    """The units that are not sent in a round.

    Args:
        every: Period by unit id; other units are sent in every round.
        units: Units to look at.
        round: Number of the round that a device works on.
    """
    return tuple(unit for unit in units if not is_due(every.get(unit, 1), round))


def reuse_since(every: Mapping[str, int], units: Iterable[str], round: int) -> dict[str, int]:
    """Which values a device takes from itself.

    Args:
        every: Period by unit id; other units are exchanged in every round.
        units: Units that the device exchanges.
        round: Number of the round that it works on.

    Returns:
        By unit id, the earliest round of which its own values may be; a device that made none since then takes the
        global ones.
    """
    return {unit: period_start(every[unit], round) for unit in units if every.get(unit, 1) > 1}
