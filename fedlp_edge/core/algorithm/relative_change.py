"""How much a round changed each unit, relative to the unit's own size.

``||mean delta|| / ||weights||`` over the parameters that were sent: the measure by which FedLUAR
(arXiv 2503.11146, equation 1) chooses what to recycle, and by which rates are distributed by importance. Buffers such
as BatchNorm statistics are not looked at: they are no result of optimisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Unit


def relative_changes(
    units: Iterable[Unit], weights: Mapping[str, Array], means: Mapping[str, Array]
) -> dict[str, float]:
    """The relative change of each unit of which a parameter was sent.

    Args:
        units: Units to look at.
        weights: Global tensors by name, before the step.
        means: Averaged delta of each tensor that somebody sent.

    Returns:
        A number by unit id; 1 for a unit that was all zero and changed. Units that nobody sent are left out.
    """
    changes: dict[str, float] = {}
    for unit in units:
        names = [tensor.name for tensor in unit.tensors if tensor.trainable and tensor.name in means]
        if names:
            size = _norm(weights[name] for name in names)
            change = _norm(means[name] for name in names)
            changes[unit.id] = change / size if size else float(change > 0)
    return changes


def _norm(arrays: Iterable[Array]) -> float:
    total = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        total += float(np.einsum("i,i->", flat, flat, dtype=np.float64))
    return float(np.sqrt(total))
