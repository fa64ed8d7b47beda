"""Single train steps, with numbers that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import MemorySaving, TrainingSettings
from fedlp_edge.learning.training.compute_modes import COMPUTE
from fedlp_edge.learning.training.step import train_steps
from tests.two_layers import ONE_STEP, linear

X, Y = torch.ones(2, 1), torch.zeros(2, dtype=torch.int64)
FLOAT32 = COMPUTE["float32"]


def model() -> nn.Sequential:
    return nn.Sequential(linear(torch.ones(2, 1)), linear(torch.eye(2)))


def test_step_follows_the_gradient_and_returns_the_loss_before_it() -> None:
    trained = model()
    with train_steps(trained, ONE_STEP, Y, FLOAT32) as step:
        loss = step(X, Y)
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
    assert not loss.requires_grad
    assert trained[0].weight.tolist() == [[1.5], [0.5]]
    assert trained[1].weight.tolist() == [[1.5, 0.5], [-0.5, 0.5]]


def test_parts_of_a_batch_make_the_step_of_the_whole() -> None:
    parts = TrainingSettings(lr=1.0, momentum=0.0, batch_size=2, memory=MemorySaving(micro_batch=1))
    trained = model()
    with train_steps(trained, parts, Y, FLOAT32) as step:
        assert step(X, Y).item() == pytest.approx(0.6931, abs=1e-4)
    assert trained[0].weight.tolist() == [[1.5], [0.5]]


def test_gradient_of_the_whole_batch_is_clipped() -> None:
    clipped = TrainingSettings(lr=1.0, momentum=0.0, batch_size=2, clip_norm=0.1)
    trained = model()
    before = [parameter.detach().clone() for parameter in trained.parameters()]
    with train_steps(trained, clipped, Y, FLOAT32) as step:
        step(X, Y)
    changes = torch.cat([(now - then).flatten() for now, then in zip(trained.parameters(), before, strict=True)])
    assert changes.norm().item() == pytest.approx(0.1, rel=1e-4)


def test_only_what_is_named_is_trained_and_flags_are_restored() -> None:
    trained = model()
    with train_steps(trained, ONE_STEP, Y, FLOAT32, trainable={"1.weight"}) as step:
        assert len(step.parameters) == 1
        step(X, Y)
    assert trained[0].weight.tolist() == [[1.0], [1.0]]
    assert trained[1].weight.tolist() != [[1.0, 0.0], [0.0, 1.0]]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_with_nothing_to_train_statistics_alone_change() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(1, momentum=1.0), linear(torch.ones(2, 1)))
    with train_steps(norm, ONE_STEP, Y, FLOAT32, trainable=()) as step:
        step(torch.tensor([[1.0], [3.0]]), Y)
    assert norm[0].running_mean.tolist() == [2.0]
    assert norm[1].weight.tolist() == [[1.0], [1.0]]


def test_empty_batch_is_refused() -> None:
    with train_steps(model(), ONE_STEP, Y, FLOAT32) as step, pytest.raises(ValueError, match="a step needs a sample"):
        step(X[:0], Y[:0])
