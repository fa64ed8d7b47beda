"""Optimizers change parameters by their gradients."""

from __future__ import annotations

import pytest
import torch

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.training.optimizers import make_optimizer


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        # 1 - 0.5 * 2 = 0, and with momentum 0.5 * 2 + 2 = 3 then 0 - 0.5 * 3.
        (TrainingSettings(lr=0.5, momentum=0.5), [0.0, -1.5]),
        # The weight 1 adds 0.5 to the gradient: 1 - 0.5 * 2.5, then -0.25 - 0.5 * (2 - 0.125).
        (TrainingSettings(lr=0.5, momentum=0.0, weight_decay=0.5), [-0.25, -1.1875]),
        # With a constant gradient, every step of Adam is as long as lr.
        (TrainingSettings(optimizer="adam", lr=0.25), [0.75, 0.5]),
    ],
)
def test_steps_are_those_worked_out_by_hand(settings: TrainingSettings, wanted: list[float], fused: bool) -> None:
    used, unused = torch.tensor([1.0]), torch.tensor([9.0])
    optimizer = make_optimizer([used, unused], settings, fused=fused)
    reached = []
    for _ in wanted:
        used.grad = torch.tensor([2.0])
        optimizer.step()
        assert used.grad is None
        reached.append(used.item())
    assert reached == pytest.approx(wanted, abs=1e-6)
    assert unused.tolist() == [9.0]
