"""This module says what the models of a run are worth: what their files will answer, and each exit alone beside it.

Coordinator and simulation judge rounds by the same numbers, which are those of the model that is exported.
"""

from __future__ import annotations

import msgspec

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import accuracies


class ExitScores(msgspec.Struct, frozen=True):
    """What exits are worth, or the means of the outputs of the exits up to each, by depth.

    Attributes:
        metrics: Metrics by depth and name.
        loss: Mean loss by depth; None if it is not finite.
        sums: What the metrics are computed from, by depth.
    """

    metrics: dict[int, dict[str, float]]
    loss: dict[int, float | None] = {}
    sums: dict[int, MetricSums] = {}


class ModelScores(ExitScores, frozen=True):
    """What the models of some depths are worth by what they answer with, by depth.

    Attributes:
        answer: What the models answer with.
        exits: The task's metric for each exit alone; empty where that is what the models answer with.
        ensemble: The task's metric for the mean of the outputs of the exits up to a depth; empty for a single exit.
    """

    answer: AnswerMode = "exit"
    exits: dict[int, float] = {}
    ensemble: dict[int, float] = {}

    @property
    def accuracy(self) -> dict[int, float]:
        """Accuracy of the models, 0 to 1, by depth; empty for a task that has none."""
        return accuracies(self.metrics)


NO_SCORES = ModelScores({})
"""Scores of a round that is not evaluated."""


def model_scores(answer: AnswerMode, metric: str, exits: ExitScores, means: ExitScores) -> ModelScores:
    """Returns what models are worth.

    Args:
        answer: What they answer with.
        metric: Name of the task's own metric.
        exits: What each exit alone is worth.
        means: What the means of the outputs of the exits up to each depth are worth.
    """
    answering = means if answer == "mean" else exits
    return ModelScores(
        metrics=answering.metrics,
        loss=answering.loss,
        sums=answering.sums,
        answer=answer,
        exits=_values(metric, exits) if answer == "mean" else {},
        ensemble=_values(metric, means) if len(means.metrics) > 1 else {},
    )


def _values(metric: str, scores: ExitScores) -> dict[int, float]:
    return {depth: by_name[metric] for depth, by_name in scores.metrics.items() if metric in by_name}
