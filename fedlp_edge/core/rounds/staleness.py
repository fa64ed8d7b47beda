"""What an update weighs that started from an older version of the model.

FedBuff (Nguyen et al., arXiv 2106.06639, section 5) scales an update by ``(1 + s)^-a``, with ``s`` the number of
versions made since its device got the model. Here the factor is a whole number of 256ths, so that weights stay
integers and the average stays exact.
"""

from __future__ import annotations

import math

from fedlp_edge.core.rounds.settings import RoundSettings

FRESH = 256
"""The factor of an update that is not stale."""


def factor(staleness: int, exponent: float) -> int:
    """``FRESH * (1 + staleness)^-exponent``, rounded, at least 1."""
    return max(1, round(FRESH * math.pow(1 + staleness, -exponent)))


def weight_in(settings: RoundSettings, weight: int, started: int, round: int) -> int:
    """What an update weighs in the round that counts it.

    Args:
        settings: of the run.
        weight: of a fresh update: its samples, or 1.
        started: round of its task.
        round: that counts it; the same in synchronous mode.
    """
    if settings.mode == "synchronous":
        return weight
    return weight * factor(round - started, settings.staleness_exponent)
