"""This module is the task of predicting one number or several.

The model's outputs are standardised: an output of 1 is one standard deviation above the mean. Mean and standard
deviation are agreed in the fleet, so that all devices train towards the same numbers. Metrics, and what an exported
model answers, are in the units of the targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import metrics_of
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.tasks.histograms import value_histogram

MAX_DRAWN = 8
"""Most targets for which pairs of true and predicted values are counted."""


class Regression:
    """The task of predicting numbers, with one standardised output per target.

    Args:
        mean: Mean of each target, [K]; empty for targets that are standardised already.
        std: Standard deviation of each target, [K]; empty likewise.

    Attributes:
        name: Name of the task.
        targets: Kind of its targets.
    """

    name = "regression"
    targets: TargetKind = "values"

    def __init__(self, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        self._mean = torch.tensor(mean or (0.0,))
        self._std = torch.tensor(std or (1.0,))

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Returns the mean squared error of the standardised outputs."""
        return functional.mse_loss(outputs, self.standardised(y).to(outputs.dtype))

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns sums of errors and of deviations from the mean in the targets' units, and pairs of binned values."""
        true, predicted = self.standardised(y).double(), outputs.double()
        std = self._std.to(y.device).double()
        errors, deviations = (predicted - true) * std, true * std
        sums = {
            "samples": torch.tensor([len(y)]),
            "loss": ((predicted - true).square().mean() * len(y)).reshape(1),
            "deviations": deviations.sum(dim=0),
            "squares": deviations.square().sum(dim=0),
            "absolute_errors": errors.abs().sum(dim=0),
            "squared_errors": errors.square().sum(dim=0),
        }
        if y.shape[1] <= MAX_DRAWN:
            sums["pairs"] = value_histogram(true, predicted)
        return sums

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns MAE, RMSE, MSE and R2, the mean over targets and of each target, and the loss."""
        return metrics_of(self.name, sums) or {}

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns the targets in their own units."""
        return {"values": outputs * self._std.to(outputs.device) + self._mean.to(outputs.device)}

    def standardised(self, y: Tensor) -> Tensor:
        """Returns targets in standard deviations from the mean, as the model gives them."""
        return (y - self._mean.to(y.device)) / self._std.to(y.device)
