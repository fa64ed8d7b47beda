"""Weights are kept near those at the start of the round."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.training.objectives.proximal import Proximal


def test_proximal_is_half_the_squared_distance() -> None:
    first, second = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([[3.0]]))
    term = Proximal(0.5, [first, second])
    assert term().item() == 0.0
    with torch.no_grad():
        first.add_(1.0)
        second.sub_(2.0)
    value = term()
    value.backward()
    assert value.item() == pytest.approx(0.5 / 2 * (1 + 1 + 4))
    assert first.grad is not None
    assert second.grad is not None
    assert (first.grad.tolist(), second.grad.tolist()) == ([0.5, 0.5], [[-1.0]])
