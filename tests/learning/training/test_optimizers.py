"""Optimizers change parameters by their gradients."""

from __future__ import annotations

import pytest
import torch

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.training.optimizers import clip_gradients, make_optimizer


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        # 1 - 0.5 * 2 = 0, and with momentum 0.5 * 2 + 2 = 3 then 0 - 0.5 * 3.
        (TrainingSettings(lr=0.5, momentum=0.5), [0.0, -1.5]),
        # The weight 1 adds 0.5 to the gradient: 1 - 0.5 * 2.5, then -0.25 - 0.5 * (2 - 0.125).
        (TrainingSettings(lr=0.5, momentum=0.0, weight_decay=0.5), [-0.25, -1.1875]),
        # A tenth of the weight goes first: 1 * 0.9 - 0.25, then 0.65 * 0.9 - 0.25; the update does not change by it.
        (TrainingSettings(optimizer="adamw", lr=0.25, weight_decay=0.4), [0.65, 0.335]),
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


@pytest.mark.parametrize(
    ("most", "wanted"),
    [
        # The norm of 3, 0 and 4 is 5.
        (1.0, [[0.6, 0.0], [0.8]]),
        (10.0, [[3.0, 0.0], [4.0]]),
    ],
)
def test_clip_gradients_shortens_the_gradient_of_all_parameters_together(
    most: float, wanted: list[list[float]]
) -> None:
    parameters = [torch.zeros(2), torch.zeros(1), torch.zeros(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    clip_gradients(parameters, most)
    assert parameters[0].grad.tolist() == pytest.approx(wanted[0], abs=1e-5)
    assert parameters[1].grad.tolist() == pytest.approx(wanted[1], abs=1e-5)
    assert parameters[2].grad is None


def test_clip_gradients_takes_sparse_gradients() -> None:
    table = torch.nn.Embedding(4, 1, sparse=True)
    (3 * table(torch.tensor([1])) + 4 * table(torch.tensor([2]))).sum().backward()
    clip_gradients([table.weight], 1.0)
    assert table.weight.grad is not None
    assert table.weight.grad.to_dense().flatten().tolist() == pytest.approx([0.0, 0.6, 0.8, 0.0], abs=1e-5)
