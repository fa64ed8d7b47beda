"""This module is the task of finding anomalies: a model learns to reconstruct normal samples, and fails on others.

The outputs are the reconstructed input, flattened, so every exit is a head with as many outputs as the input has
numbers. The score of a sample is the mean squared error of its reconstruction, in normalised units.
"""

from __future__ import annotations

from torch import Tensor

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import metrics_of
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.tasks.histograms import error_histogram


class Anomaly:
    """The task of reconstructing normal samples.

    Args:
        threshold: Score from which an exported model calls a sample anomalous.

    Attributes:
        name: Name of the task.
        targets: Kind of its targets.
        threshold: Score from which an exported model calls a sample anomalous.
    """

    name = "anomaly"
    targets: TargetKind = "none"

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Returns the mean score of the normal samples; those that are labelled as anomalous teach nothing."""
        normal = (y == 0).to(outputs.dtype)
        return (_scores(outputs, x) * normal).sum() / normal.sum().clamp(min=1)

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns histograms of the scores of normal and of anomalous samples; ``samples`` are the normal ones."""
        scores, normal = _scores(outputs.double(), x), y == 0
        return {
            "samples": normal.sum().reshape(1),
            "loss": scores[normal].sum().reshape(1),
            "normal": error_histogram(scores[normal]),
            "anomalous": error_histogram(scores[~normal]),
        }

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns the loss, and ROC AUC where there are anomalous samples."""
        return metrics_of(self.name, sums) or {}

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns the score of each sample [B], whether it is anomalous [B], and the reconstruction in normalised
        units, of the input's shape."""
        scores = _scores(outputs, x)
        return {"score": scores, "anomalous": scores >= self.threshold, "reconstruction": outputs.reshape(x.shape)}


def _scores(outputs: Tensor, x: Tensor) -> Tensor:
    """Returns the mean squared error of each reconstruction, [B]."""
    return (outputs.flatten(1) - x.flatten(1).to(outputs.dtype)).square().mean(dim=1)
