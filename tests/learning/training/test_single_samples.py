"""Batches of one sample, which some models cannot be trained on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge import partition
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.training.single_samples import check_single_samples


def model_with(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 2))


def test_batch_norm_over_vectors_is_refused_with_one_sample_alone() -> None:
    model = partition(model_with(nn.BatchNorm1d(6)), torch.zeros(1, 4)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"cannot be trained with \[training\] batch_size = 1 .* take 2 or more"):
        check_single_samples(model, 1)
    check_single_samples(model, 2)
    check_single_samples(model, 0)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_norms_and_frozen_ones_take_one_sample() -> None:
    frozen = nn.BatchNorm1d(6).requires_grad_(False)
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    for model, shape in ((model_with(nn.LayerNorm(6)), (4,)), (model_with(frozen), (4,)), (maps, (1, 4, 4))):
        check_single_samples(partition(model, torch.zeros(1, *shape)), 1)
