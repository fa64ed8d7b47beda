"""Models as users bring them: raw counts behind a norm, masks in buffers, a frozen backbone."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

LENGTH, WIDTH = 8, 16


def raw_counts(num_classes: int = 3) -> nn.Module:
    """Takes counts of a 16-bit sensor as they come, and normalises them itself."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm1d(6), conv=nn.Conv1d(6, 8, 5, padding=2), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool1d(1),
            flat=nn.Flatten(), head=nn.Linear(8, num_classes),
        )
    )  # fmt: skip


class _Block(nn.Module):
    def __init__(self, own_mask: bool) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        if own_mask:
            self.register_buffer("mask", torch.full((LENGTH, LENGTH), float("-inf")).triu(1))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) / WIDTH**0.5 + (self.mask if mask is None else mask)
        return x + self.out(scores.softmax(dim=-1) @ v)


class _Masked(nn.Module):
    def __init__(self, own_mask: bool, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.blocks = nn.ModuleList(_Block(own_mask) for _ in range(2))
        self.own_mask = own_mask
        if not own_mask:
            self.register_buffer("mask", torch.full((LENGTH, LENGTH), float("-inf")).triu(1))
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x) if self.own_mask else block(x, self.mask)
        return self.head(x[:, -1])


def own_masks(num_classes: int = 2) -> nn.Module:
    """A causal mask in every block."""
    return _Masked(True, num_classes)


def one_mask(num_classes: int = 2) -> nn.Module:
    """One causal mask for all blocks."""
    return _Masked(False, num_classes)


def adapters(num_classes: int = 2) -> nn.Module:
    """Frozen layers with a small trained one beside each, in the same block."""

    def block() -> nn.Module:
        frozen = nn.Linear(LENGTH * 4, LENGTH * 4).requires_grad_(False)
        return nn.Sequential(frozen, nn.Linear(LENGTH * 4, 2), nn.ReLU(), nn.Linear(2, LENGTH * 4))

    return nn.Sequential(
        OrderedDict(one=nn.Sequential(nn.Flatten(), block()), two=block(), head=nn.Linear(LENGTH * 4, num_classes))
    )


def plain(num_classes: int = 3) -> nn.Module:
    """No scaling step anywhere."""
    return nn.Sequential(
        OrderedDict(flat=nn.Flatten(), hidden=nn.Linear(128, 64), relu=nn.ReLU(), head=nn.Linear(64, num_classes))
    )
