"""A model with all three kinds of tensors, as users write them."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

WIDE = 2048
"""Outputs of the frozen layer: 0.5 MB that nobody trains."""


class Masked(nn.Module):
    """Attention of each sample to itself, with a causal mask that is an ordinary buffer, infinities included."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.register_buffer("mask", torch.full((8, 8), float("-inf")).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 64] to [B, 64]."""
        rows = x.reshape(-1, 8, 8)
        weights = (rows @ rows.transpose(1, 2) / 8 + self.mask).softmax(dim=-1)
        return ((weights @ rows) * self.scale).flatten(1)


class Scaled(nn.Module):
    """Somebody's own normalisation: a running mean that only a step in training shows to be one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))
        self.register_buffer("seen", torch.zeros(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 64] to [B, 64]."""
        if self.training:
            self.seen.mul_(0.5).add_(0.5 * x.detach().mean(0))
        return (x - self.seen) * self.weight


def build(num_classes: int = 10) -> nn.Module:
    """8x8 pictures; a wide layer and its norm are frozen, the norm behind them is not."""
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDE), nn.BatchNorm1d(WIDE), nn.ReLU())
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return nn.Sequential(
        OrderedDict(
            frozen=frozen,
            narrow=nn.Sequential(nn.Linear(WIDE, 64), nn.BatchNorm1d(64), nn.ReLU()),
            masked=nn.Sequential(Masked(), Scaled()),
            head=nn.Linear(64, num_classes),
        )
    )
