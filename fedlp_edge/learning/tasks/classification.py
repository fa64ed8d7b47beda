"""This module is the task of telling classes apart, each sample being of one class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import metrics_of
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.tasks.histograms import score_histogram

MAX_CONFUSED = 64
"""Most classes for which a confusion matrix is kept."""

MAX_SCORED = 32
"""Most classes for which scores are kept, from which ``roc_auc`` is computed."""


class Classification:
    """The task of telling classes apart, with one logit per class, or with one logit for two classes.

    Args:
        outputs: Number of the model's outputs.

    Attributes:
        name: Name of the task.
        targets: Kind of its targets.
        classes: Number of classes.
    """

    name = "classification"
    targets: TargetKind = "class"

    def __init__(self, outputs: int) -> None:
        self.classes = max(2, outputs)

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Returns the mean cross-entropy."""
        return functional.cross_entropy(class_logits(outputs), y)

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns counts by class, the confusion matrix [true, predicted], and score histograms by class."""
        logits, classes = class_logits(outputs), self.classes
        answers = logits.argmax(dim=1)
        sums = {
            "samples": torch.tensor([len(y)]),
            "loss": functional.cross_entropy(logits, y, reduction="sum").reshape(1),
            "support": y.bincount(minlength=classes),
            "predicted": answers.bincount(minlength=classes),
            "correct": y[answers == y].bincount(minlength=classes),
        }
        if classes <= MAX_CONFUSED:
            sums["confusion"] = (y * classes + answers).bincount(minlength=classes**2)
        if classes <= MAX_SCORED:
            positive = y[:, None] == torch.arange(classes, device=y.device)
            sums |= score_histogram(functional.softmax(logits.float(), dim=1).logit(), positive)
        return sums

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns accuracy, balanced accuracy, macro F1, ROC AUC (mean over classes) and loss."""
        return metrics_of(self.name, sums) or {}

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns the logits of the classes."""
        return {"logits": class_logits(outputs)}


def class_logits(outputs: Tensor) -> Tensor:
    """Returns one logit per class, [..., classes].

    A single output z is the logarithm of how much more likely class 1 is than class 0, so that the logits (0, z) give
    the same probabilities, and their cross-entropy is the binary one.

    Args:
        outputs: Outputs of a model, [..., outputs].
    """
    if outputs.shape[-1] > 1:
        return outputs
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1)
