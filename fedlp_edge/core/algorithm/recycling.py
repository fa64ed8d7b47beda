"""Recycling of updates, in the manner of FedLUAR (arXiv 2503.11146, algorithms 1 and 2).

A few units are not sent in a round; their last update is applied again. Which ones is drawn anew each round, the
more likely the smaller a unit's relative change is: ``p_l = (1 / s_l) / sum (1 / s)``. A unit keeps its score while it
is recycled, so that what is drawn once is not drawn for ever. Beyond the paper, an update loses strength each time that
it is used again. To recycle every unit that happened to be missing, however long, ruins a model: stale directions add
up, and this module only ever repeats what the draw says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.seeds import uniform


def choose_recycled(changes: Mapping[str, float], count: int, *, seed: int, round: int) -> frozenset[str]:
    """Draws the units that a round recycles, without replacement.

    The weighted draw is the one of Efraimidis and Spirakis: the ``count`` smallest of ``-ln(u_l) * s_l``, which
    depends on names alone.

    Args:
        changes: Last relative change by unit id, of the units that have an update to repeat.
        count: Number of units to draw, fewer than all of them.
        seed: Seed of the run.
        round: Number of the round from 1.
    """

    def key(unit: str) -> tuple[float, str]:
        return -math.log1p(-uniform(seed, "recycle", round, unit)) * changes[unit], unit

    return frozenset(sorted(changes, key=key)[: max(0, min(count, len(changes) - 1))])


def recycled_deltas(last: Mapping[str, Array], names: Iterable[str], decay: float) -> dict[str, Array]:
    """What is applied instead of an update.

    Args:
        last: Deltas that were applied last, by tensor name.
        names: Tensors of the units to recycle.
        decay: Factor on the old update.

    Returns:
        The weakened updates of those tensors that have one.
    """
    factor = np.float32(decay)
    return {name: np.asarray(factor * last[name], dtype=np.float32) for name in names if name in last}
