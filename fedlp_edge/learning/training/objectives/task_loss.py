"""Defines the objective of tasks that do not tell classes apart: the mean loss of the exits, as the task has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.training.objectives.proximal import Proximal


@dataclass(frozen=True, slots=True)
class TaskObjective:
    """The mean over the exits of a task's loss, with the proximal term if it is not None.

    Attributes:
        task: Task whose loss is minimised.
        proximal: Proximal term of the weights.
    """

    task: LearningTask
    proximal: Proximal | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Returns the loss of one batch, as `Objective` describes it."""
        losses = [self.task.loss(outputs, y, x) for outputs in exits_of(model, x)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        return loss if self.proximal is None else loss + self.proximal()


def exits_of(model: nn.Module, x: Tensor) -> Sequence[Tensor]:
    """Returns the outputs [B, outputs] of all exits of a submodel, or those of any other model alone."""
    return model.exits(x) if isinstance(model, Submodel) else (model(x),)
