"""Inputs for models of which nobody here has samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.learning.export.made_inputs import MADE, made_inputs


def test_have_the_mean_and_deviation_of_each_channel_once_they_are_normalised() -> None:
    facts = InputFacts(scale=1 / 255, mean=(0.5,), std=(0.25,), channel_mean=(3.0, -1.0), channel_std=(0.5, 2.0))
    made = made_inputs(facts, nn.Identity(), (2, 16, 16), tokens=False)
    x, y = made.batch(slice(0, MADE))
    assert x.shape == (MADE, 2, 16, 16)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([3.0, -1.0], abs=0.1)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([0.5, 2.0], abs=0.1)
    assert y.tolist() == [0] * MADE
    assert (made.scale, made.mean, made.std) == (1 / 255, (0.5,), (0.25,))


@pytest.mark.parametrize("told", [InputFacts(), InputFacts(channel_mean=(1.0,) * 3, channel_std=(1.0,) * 3)])
def test_are_standard_normal_where_channels_are_not_told_or_do_not_fit(told: InputFacts) -> None:
    x, _ = made_inputs(told, nn.Identity(), (2, 32), tokens=False).batch(slice(0, MADE))
    assert x.mean().item() == pytest.approx(0.0, abs=0.1)
    assert x.std().item() == pytest.approx(1.0, abs=0.1)


def test_are_the_same_every_time() -> None:
    first, again = (made_inputs(InputFacts(), nn.Identity(), (3,), tokens=False) for _ in range(2))
    assert torch.equal(first.stored(), again.stored())


def test_are_tokens_that_every_embedding_knows() -> None:
    model = nn.ModuleList([nn.Embedding(50, 4), nn.Embedding(7, 4)])
    x, _ = made_inputs(InputFacts(), model, (20,), tokens=True).batch(slice(0, MADE))
    assert sorted(set(x.flatten().tolist())) == [0, 1, 2, 3, 4, 5, 6]
