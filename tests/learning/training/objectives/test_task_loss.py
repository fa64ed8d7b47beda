"""The mean of a task's loss over the exits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.tasks.regression import Regression
from fedlp_edge.learning.training.objectives.task_loss import TaskObjective, exits_of


def test_any_model_has_one_exit() -> None:
    x = torch.tensor([[1.0], [2.0]])
    (outputs,) = exits_of(nn.Identity(), x)
    assert outputs is x


def test_loss_is_that_of_the_task() -> None:
    task = Regression((0.0,), (1.0,))
    x, y = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    loss = TaskObjective(task)(nn.Identity(), x, y)
    assert loss.item() == pytest.approx(task.loss(x, y, x).item())
    assert loss.item() > 0
