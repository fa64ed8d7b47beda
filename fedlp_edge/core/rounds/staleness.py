"""Computes the weight of an update that started from an older version of the model.

FedBuff (Nguyen et al., arXiv 2106.06639, section 5) scales an update by ``(1 + s)^-a``, where ``s`` is the number of
versions made since its device got the model. Here the factor is an integer number of 256ths, so that weights stay
integers and the average stays exact.
"""

from __future__ import annotations

import math

from fedlp_edge.core.rounds.settings import RoundSettings

FRESH = 256
"""Factor, in 256ths, of an update that is not stale."""


def factor(staleness: int, exponent: float) -> int:
    """Returns ``FRESH * (1 + staleness)^-exponent``, rounded, at least 1.

    Args:
        staleness: Versions made since the device got the model.
        exponent: The exponent a of FedBuff.
    """
    return max(1, round(FRESH * math.pow(1 + staleness, -exponent)))


def weight_in(settings: RoundSettings, weight: int, started: int, round: int) -> int:
    """Returns the weight of an update in the round in which it counts.

    Args:
        settings: Settings of the rounds.
        weight: Weight without staleness: number of samples, or 1.
        started: Round of the task that the update is for.
        round: Round in which the update counts; equal to ``started`` in synchronous mode.
    """
    if settings.mode == "synchronous":
        return weight
    return weight * factor(round - started, settings.staleness_exponent)
