"""Whether an update is of the size of the others, so that one device cannot decide what becomes of the model.

An absolute limit must let through whatever some honest model does, and so lets a hostile device through as well. But
devices that started from the same model change each unit by about as much: ten times as many samples make ten times
as many steps, not a million times as large ones. So each unit of an update is measured against the cohort's median,
and so is each running statistic. A variance grows with the square of what its layer computes, so an honest device whose
weights grew 15 times beside the others' has variances 225 times theirs: variances are measured by their square roots,
in the unit of the means. Where fewer than three devices sent a unit, there is no cohort, and the size of the
unit itself is the measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import median_low

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.scaled_integers import ScaledIntegers, Values, float_blocks, widened
from fedlp_edge.core.blueprint import TensorSpec, Unit

MIN_COHORT = 3
"""Devices without which nobody is the odd one out."""

SUSPICIOUS_RATIO = 3.0
"""Times the measure, from which an update may be to blame for a model that is worth nothing."""

MIN_CHANGE = 1e-2
"""Of a unit's own size: a change below it is never too large, however little the others changed."""

USUAL_WEIGHT = 0.1
"""Root mean square that weights are taken to have at least: some heads begin with zeros."""

MIN_STATISTIC = 1e-3
"""Root mean square of a statistic that is never too large: in the first rounds means are close to zero."""

MIN_DEVIATION = MIN_STATISTIC**0.5
"""Root mean square of standard deviations that are never too large."""

_TINY = 1e-12

Sizes = Mapping[str, float]
"""Euclidean norms: of all changes of a unit by its id, of a statistic's values by its name, of a variance's roots."""


def sizes_of(units: Iterable[Unit], update: Mapping[str, Values]) -> dict[str, float]:
    """How large an update is.

    Args:
        units: Units that the device exchanges.
        update: Changes and values of statistics, by tensor name.
    """
    sizes: dict[str, float] = {}
    for unit in units:
        sent = [tensor for tensor in unit.tensors if tensor.name in update]
        if any(tensor.trainable for tensor in sent):
            sizes[unit.id] = math.sqrt(sum(squared_norm(update[t.name]) for t in sent if t.trainable))
        sizes.update({t.name: _statistic_size(t, widened(update[t.name])) for t in sent if not t.trainable})
    return sizes


def deviations(units: Iterable[Unit], weights: Mapping[str, Array], updates: Mapping[str, Sizes]) -> dict[str, float]:
    """How many times as large as its measure each update is, where it is largest.

    Args:
        units: Units of the global model.
        weights: Values of the global model by tensor name.
        updates: Sizes of the updates by device.

    Returns:
        By device; 1 or less for what is as large as the others are.
    """
    worst = dict.fromkeys(updates, 0.0)
    present = sizes_of(units, weights)
    least: dict[str, float] = {}
    alone: dict[str, float] = {}
    for unit in units:
        least[unit.id] = MIN_CHANGE * present.get(unit.id, 0.0)
        alone[unit.id] = present.get(unit.id, 0.0) + USUAL_WEIGHT * math.sqrt(unit.parameters)
        least |= {t.name: _least_of(t) * math.sqrt(t.numel) for t in unit.tensors if not t.trainable}
    for key, floor in least.items():
        sent = {device: sizes[key] for device, sizes in updates.items() if key in sizes}
        if len(sent) >= MIN_COHORT:
            measure = max(median_low(sent.values()), floor, _TINY)
        elif key in alone:
            measure = alone[key]
        else:
            continue  # raw counts take a variance from 1 to 1e9 in one round; nobody is there to say otherwise
        for device, size in sent.items():
            worst[device] = max(worst[device], size / measure)
    return worst


def find_suspect(deviations: Mapping[str, float]) -> str | None:
    """Who is to blame for a model that is worth nothing: the largest update, if it stands out; None if none does."""
    if len(deviations) < 2:
        return None
    largest = min(deviations, key=lambda device: (-deviations[device], device))
    usual = max(median_low(deviations.values()), _TINY)
    return largest if deviations[largest] >= SUSPICIOUS_RATIO * usual else None


def squared_norm(values: Values) -> float:
    """Returns the sum of the squares of all elements, about as exact as float32.

    Args:
        values: Of any shape.
    """
    if isinstance(values, ScaledIntegers):
        return values.squared_norm()
    # numpy widens to float64 at a quarter of the speed; what float32 cannot hold is rare. The sum of one block is
    # rounded as often as it has lanes of a vector register.
    total = sum(float(np.einsum("i,i->", block, block)) for block in float_blocks(values))
    if _TINY < total < math.inf:
        return total
    return sum(float(np.einsum("i,i->", block, block, dtype=np.float64)) for block in float_blocks(values))


def _is_variance(tensor: TensorSpec) -> bool:
    return tensor.least == 0.0


def _least_of(statistic: TensorSpec) -> float:
    return MIN_DEVIATION if _is_variance(statistic) else MIN_STATISTIC


def _statistic_size(tensor: TensorSpec, values: Array) -> float:
    if _is_variance(tensor):
        return math.sqrt(float(np.abs(values).sum(dtype=np.float64)))
    return math.sqrt(squared_norm(values))
