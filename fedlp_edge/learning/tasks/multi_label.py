"""This module is the task of saying for each of several labels whether a sample has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import metrics_of
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.tasks.classification import MAX_SCORED
from fedlp_edge.learning.tasks.histograms import score_histogram


class MultiLabel:
    """The task of saying for each label whether a sample has it, with one logit per label.

    Attributes:
        name: Name of the task.
        targets: Kind of its targets.
    """

    name = "multi-label"
    targets: TargetKind = "labels"

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Returns the binary cross-entropy, the mean over samples and labels."""
        return functional.binary_cross_entropy_with_logits(outputs, y.to(outputs.dtype))

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns true positives, false positives and false negatives by label, and score histograms by label."""
        wanted, answered = y > 0.5, outputs > 0
        sums = {
            "samples": torch.tensor([len(y)]),
            "loss": (self.loss(outputs.float(), y, x) * len(y)).reshape(1),
            "exact": (wanted == answered).all(dim=1).sum().reshape(1),
            "true_positives": (wanted & answered).sum(dim=0),
            "false_positives": (~wanted & answered).sum(dim=0),
            "false_negatives": (wanted & ~answered).sum(dim=0),
        }
        return sums | score_histogram(outputs, wanted) if outputs.shape[1] <= MAX_SCORED else sums

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns macro and micro F1, the F1 of each label, ROC AUC (mean over labels), subset accuracy and loss."""
        return metrics_of(self.name, sums) or {}

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns the probability of each label."""
        return {"probabilities": outputs.sigmoid()}
