"""Classes that a device lacks are masked."""

from __future__ import annotations

import torch

from fedlp_edge.learning.training.objectives.masking import AbsentClasses


def test_logits_of_absent_classes_are_zero_and_get_no_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    masked = AbsentClasses(torch.tensor([0, 2, 2]))(logits)
    assert masked.tolist() == [[1.0, 0.0, 3.0, 0.0]]
    masked.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1.0, 0.0, 1.0, 0.0]]
