"""Draws the devices of a round, and the layers that each of them sends.

With the layer-preserving rate (LPR) of FedLP-Homo (arXiv 2303.06360, section III), layer ``l`` of device ``k`` is sent
if a Bernoulli draw with rate ``p_k,l`` succeeds. The draw is a function of (seed, round, device, layer), so the
coordinator knows whether a missing layer was withheld or lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from fedlp_edge.core.blueprint import Unit
from fedlp_edge.core.seeds import uniform
from fedlp_edge.core.settings import Granularity


def draw_sent_tensors(
    units: Sequence[Unit],
    *,
    lpr: float,
    lpr_of: Mapping[str, float],
    seed: int,
    round: int,
    device: str,
    granularity: Granularity = "layer",
) -> dict[str, tuple[str, ...]]:
    """Draws the tensors that a device sends.

    Args:
        units: Units that the device exchanges, in blueprint order.
        lpr: Layer-preserving rate of every unit that is not in ``lpr_of``.
        lpr_of: Layer-preserving rate by unit id.
        seed: Seed of the run.
        round: Number of the round, from 1.
        device: Device id.
        granularity: ``layer`` draws once per unit; ``tensor`` once per tensor, as the code of the paper's authors does.

    Returns:
        Names of the sent tensors by unit id, in blueprint order; units that are withheld as a whole are left out.
    """
    kept: dict[str, tuple[str, ...]] = {}
    for unit in units:
        rate = lpr_of.get(unit.id, lpr)
        names = tuple(tensor.name for tensor in unit.tensors)
        if granularity == "layer":
            if rate < 1 and uniform(seed, round, device, unit.id) >= rate:  # no draw reaches 1
                continue
        else:
            names = tuple(name for name in names if uniform(seed, round, device, unit.id, name) < rate)
        if names:
            kept[unit.id] = names
    return kept


def draw_cohort(
    candidates: Iterable[str], size: int, *, seed: int, round: int, preference: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Draws the devices of a round without replacement.

    Each device has a random number of its own, and the smallest numbers win, so that a device that comes or goes
    changes at most one place of the cohort.

    Args:
        candidates: Ids of devices.
        size: Size of the cohort; 0 takes all devices.
        seed: Seed of the run.
        round: Number of the round, from 1.
        preference: Relative likelihood of each device to be drawn next; None if it is equal for all. A number u is then
            ranked by ``-log(1 - u) / preference`` (Efraimidis and Spirakis 2006).

    Returns:
        Ids of the drawn devices, sorted.
    """

    def rank(device: str) -> tuple[float, str]:
        draw = uniform(seed, "cohort", round, device)
        return (draw if preference is None else -math.log1p(-draw) / preference[device], device)

    ranked = sorted(candidates, key=rank)
    return tuple(sorted(ranked[:size] if size else ranked))
