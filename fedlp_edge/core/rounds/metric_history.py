"""Follows the metric that a run is judged by: which round made the best model, and whether learning has come to a stop.

A history is a function of the measured values in order, so a coordinator that starts again finds the same best round
and the same end of the run in its journal.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

from fedlp_edge.core.metric_names import BETTER, Better
from fedlp_edge.core.settings import EvaluationSettings


class MeasuredRound(NamedTuple):
    """The value of a metric for the model that a round made.

    Attributes:
        round: Number of the round.
        value: Value of the metric.
    """

    round: int
    value: float


class MetricHistory:
    """The values of one metric.

    Args:
        settings: Which way is better, and the patience of early stop.
        metric: Name of the metric.

    Attributes:
        metric: Name of the metric.
        better: Which values are better.
    """

    def __init__(self, settings: EvaluationSettings, metric: str) -> None:
        self._settings = settings
        self._values: list[MeasuredRound] = []
        self._reference: MeasuredRound | None = None
        self._since = 0
        self.metric = metric
        self.better: Better = settings.better if settings.better != "auto" else BETTER.get(metric, "lower")

    def copy(self) -> MetricHistory:
        """Returns a history of the same values, to which others may be added."""
        other = copy.copy(self)
        other._values = list(self._values)
        return other

    def add(self, measured: MeasuredRound) -> None:
        """Takes the value of a later round than all before it; a value that is no number is never better."""
        self._values.append(measured)
        if self._is_better(measured, self._reference, self._settings.min_delta):
            self._reference, self._since = measured, 0
        else:
            self._since += 1

    def best(self, kept: Callable[[int], bool] = lambda _: True) -> MeasuredRound | None:
        """Returns the best value, the first one of equal ones; None if there is none that is a number.

        Args:
            kept: Function that returns whether the model of a round can be used.
        """
        best: MeasuredRound | None = None
        for measured in self._values:
            if self._is_better(measured, best) and kept(measured.round):
                best = measured
        return best

    @property
    def plateau(self) -> str:
        """Why the run has learned enough, in one line; empty if it goes on."""
        settings = self._settings
        if not settings.patience or self._since < settings.patience:
            return ""
        by = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
        if self._reference is None:
            return f"{self.metric} was no number in {self._since} measured rounds"
        return (
            f"{self.metric} has not got better{by} than {self._reference.value:.4g} of round {self._reference.round} "
            f"in {self._since} measured rounds"
        )

    def _is_better(self, measured: MeasuredRound, than: MeasuredRound | None, by: float = 0.0) -> bool:
        if not math.isfinite(measured.value):
            return False
        if than is None:
            return True
        gain = measured.value - than.value
        return (gain if self.better == "higher" else -gain) > by
