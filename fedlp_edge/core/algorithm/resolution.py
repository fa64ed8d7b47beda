"""Whether the fixed-point sum of a round is fine enough for the changes that it adds up.

The sum (``aggregation``) rounds each weighted change to a multiple of a step that grows with the sum of all weights. A
layer that only devices with few samples sent, beside others with very many, could be rounded to nothing: the round
would end well and the layer would stand still. Here the rounding error is compared with the changes themselves; where
it is too large, the heaviest updates are made lighter until it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from fedlp_edge.core.algorithm.aggregation import SCALE_BITS, capacity_bits, capacity_of
from fedlp_edge.core.algorithm.plausibility import USUAL_WEIGHT, Sizes
from fedlp_edge.core.blueprint import Unit

MAX_ROUNDING_ERROR = 2.0**-10
"""The largest rounding error of a mean, as a share of the root mean square of the changes of the unit."""

FLOAT32_STEP = 2.0**-25
"""Half the spacing of float32 numbers, as a share of them: what is smaller is lost when it is added to a weight."""


@dataclass(frozen=True, slots=True)
class WeightLimit:
    """What no update may weigh in a round.

    Attributes:
        most: The limit.
        unit: Whose changes need it.
        share: Share of these changes that rounding would take away without the limit.
    """

    most: int
    unit: str
    share: float


def rounding_error(capacity: int, senders: int, weight: int) -> float:
    """By how much an element of a mean differs at most from the exact mean, before it becomes a float32.

    Args:
        capacity: Capacity of the sum.
        senders: Devices that sent the element.
        weight: Weight of all of them together.
    """
    return senders * 2.0 ** (capacity_bits(capacity) - SCALE_BITS - 1) / weight


def weight_limit(
    units: Iterable[Unit], present: Sizes, updates: Mapping[str, Sizes], weights: Mapping[str, int]
) -> WeightLimit | None:
    """The largest weight with which the sum is fine enough for every unit; None if it is already.

    It is never below the median: nobody can make the usual device lighter, by very small changes of a layer that others
    do not send.

    Args:
        units: Units of the global model.
        present: Sizes of its weights, see ``plausibility.sizes_of``.
        updates: Sizes by device, of those that count.
        weights: Weights of these updates, by device.
    """
    needs = [need for unit in units if (need := _need(unit, present, updates))]
    if not needs:
        return None
    most = max(weights.values())
    times, worst = _coarsest(needs, weights)
    if times <= 1:
        return None
    share = times * worst.allowed / worst.usual
    least = median_low(weights.values())
    while most > least and times > 1:
        most = max(most // 2, least)
        times, _ = _coarsest(needs, {device: min(weight, most) for device, weight in weights.items()})
    return WeightLimit(most, worst.unit, share)


@dataclass(frozen=True, slots=True)
class _Need:
    """What the changes of a unit need.

    Attributes:
        unit: Id of the unit.
        senders: Devices that sent changes of it.
        usual: Root mean square of the changes.
        allowed: Largest rounding error of an element.
    """

    unit: str
    senders: tuple[str, ...]
    usual: float
    allowed: float


def _need(unit: Unit, present: Sizes, updates: Mapping[str, Sizes]) -> _Need | None:
    senders = tuple(device for device, sizes in updates.items() if sizes.get(unit.id, 0.0) > 0)
    if not senders:
        return None
    root = math.sqrt(unit.parameters)
    usual = median_low(updates[device][unit.id] for device in senders) / root
    # A head may begin with zeros; its weights will not stay so small.
    size = present.get(unit.id, 0.0) / root + USUAL_WEIGHT
    return _Need(unit.id, senders, usual, max(MAX_ROUNDING_ERROR * usual, FLOAT32_STEP * size))


def _coarsest(needs: Sequence[_Need], weights: Mapping[str, int]) -> tuple[float, _Need]:
    """How many times as large as allowed the rounding error is where that is worst, and where."""
    capacity = capacity_of(weights.values())
    times = [
        rounding_error(capacity, len(need.senders), sum(weights[device] for device in need.senders)) / need.allowed
        for need in needs
    ]
    worst = times.index(max(times))
    return times[worst], needs[worst]
