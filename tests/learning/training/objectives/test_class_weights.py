"""Weights of samples by the inverse frequency of their class."""

from __future__ import annotations

import pytest
import torch

from fedlp_edge.learning.training.objectives.class_weights import ClassWeights


def test_rare_classes_weigh_more() -> None:
    weights = ClassWeights(torch.tensor([0, 0, 0, 1]))
    ones = torch.ones(1)
    assert weights(ones, torch.tensor([0])).item() == pytest.approx(4 / (2 * 3))
    assert weights(ones, torch.tensor([1])).item() == pytest.approx(4 / (2 * 1))


def test_the_mean_weight_of_all_samples_is_one_though_a_class_is_absent() -> None:
    labels = torch.tensor([0, 0, 2, 2, 2])
    assert ClassWeights(labels)(torch.ones(5), labels).item() == pytest.approx(1.0)
