"""Small models, one for each thing that a user's model may do, and one training step."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """Convolution, batch norm and ReLU around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.bn(self.conv(x)))


class UsersNet(nn.Module):
    """A user's own residual network: a stem, a stack of blocks, a dropout that is a function, a classifier."""

    def __init__(self, blocks: int = 3, channels: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(channels) for _ in range(blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = functional.dropout(x.mean(dim=(2, 3)), p=0.5, training=self.training)
        return self.fc(x)


def step(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """One step of gradient descent; returns the loss before it."""
    model.train()
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=0.01)
    return loss.item()
