"""This module defines the interface of a task, which says what the outputs of a model mean.

The rest of the framework knows layers, depths and updates, and asks the task for everything else: how wrong outputs
are (`loss`), what has to be counted to judge them (`sums`), what the counts say (`metrics`), and what an exported
model answers (`predict`).
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.targets import TargetKind


class LearningTask(Protocol):
    """The interface of a task."""

    @property
    def name(self) -> str:
        """Name of the task in the configuration, such as ``regression``."""

    @property
    def targets(self) -> TargetKind:
        """Kind of the targets y that the task's samples have."""

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Returns what one exit minimises: a mean over the batch, a scalar with a gradient.

        Args:
            outputs: Outputs of the exit, float32 [B, outputs].
            y: Targets of the batch.
            x: Inputs of the batch as the model gets them, [B, ...].
        """

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns what one batch contributes to the metrics; sums of batches add up.

        Args:
            outputs: Outputs of an exit, float32 [B, outputs].
            y: Targets of the batch.
            x: Inputs of the batch as the model gets them, [B, ...].

        Returns:
            One-dimensional tensors by name, of the same names and lengths for every batch. ``samples`` [1] and ``loss``
            [1], the summed loss, are among them.
        """

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns metrics by name from added sums; a metric that they do not define is missing.

        Args:
            sums: Sums of all samples that are judged together.
        """

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns what an exported model answers, by name of the ONNX output; it becomes part of the ONNX graph.

        Args:
            outputs: Outputs of the exit, float32 [B, outputs].
            x: Inputs as the model gets them, [B, ...].
        """
