"""Which devices take part in a round, and which layers of theirs survive.

The layer-preserving rate (LPR) of FedLP-Homo (arXiv 2303.06360, section III): layer ``l`` of device ``k`` is
kept when a Bernoulli draw with rate ``p_k,l`` says so. The draw is a function of (seed, round, device,
layer), so the coordinator knows what to expect: a layer is pruned or lost, never "perhaps".
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
    """Draws the tensors that a device keeps.

    Args:
        units: what the device exchanges, in blueprint order.
        lpr: rate of every unit not named in ``lpr_of``.
        lpr_of: rate by unit id.
        seed: of the run.
        round: from 1.
        device: its id.
        granularity: ``layer`` draws once per unit; ``tensor`` once per tensor, as the authors' code does.

    Returns:
        Names of the kept tensors by unit id, in blueprint order; a unit that is pruned whole is left out.
    """
    kept: dict[str, tuple[str, ...]] = {}
    for unit in units:
        rate = lpr_of.get(unit.id, lpr)
        names = tuple(tensor.name for tensor in unit.tensors)
        if granularity == "layer":
            if uniform(seed, round, device, unit.id) >= rate:
                continue
        else:
            names = tuple(name for name in names if uniform(seed, round, device, unit.id, name) < rate)
        if names:
            kept[unit.id] = names
    return kept


def draw_cohort(
    candidates: Iterable[str], size: int, *, seed: int, round: int, preference: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Samples devices for a round without replacement.

    Each device draws its own number, and the smallest win: a device that comes or goes changes at most one
    place of the cohort.

    Args:
        candidates: device ids.
        size: how many; 0 takes all.
        seed: of the run.
        round: from 1.
        preference: how likely each device is to be the next one chosen, relative to the others; all the same
            without it. Draws of u are ranked by ``-log(1 - u) / preference`` then (Efraimidis and Spirakis 2006).

    Returns:
        The chosen ids, sorted.
    """

    def rank(device: str) -> tuple[float, str]:
        draw = uniform(seed, "cohort", round, device)
        return (draw if preference is None else -math.log1p(-draw) / preference[device], device)

    ranked = sorted(candidates, key=rank)
    return tuple(sorted(ranked[:size] if size else ranked))
