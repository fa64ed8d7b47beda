"""This module holds what the exits of a model answered to samples, as sums that add up over parts of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fedlp_edge.core.metrics.metric_sums import MetricSums, added
from fedlp_edge.core.metrics.task_metrics import mean_loss


class ExitSums(msgspec.Struct, frozen=True):
    """The sums of several exits, by depth.

    Attributes:
        exits: Sums of each exit alone.
        ensembles: Sums of the mean of the outputs of the exits up to a depth.
    """

    exits: dict[int, MetricSums]
    ensembles: dict[int, MetricSums]


def merged(parts: Sequence[ExitSums]) -> ExitSums:
    """Adds up the sums of all parts of a data set, in the order in which they are given.

    Args:
        parts: Of the same depths; one at least.
    """
    return ExitSums(
        exits={depth: added(part.exits[depth] for part in parts) for depth in parts[0].exits},
        ensembles={depth: added(part.ensembles[depth] for part in parts) for depth in parts[0].ensembles},
    )


def mean_losses(sums: Mapping[int, MetricSums]) -> dict[int, float | None]:
    """Returns the mean loss by depth; None for one that is no finite number, of which JSON knows none."""
    return {depth: mean_loss(of_exit) for depth, of_exit in sums.items()}
