"""A model of many bytes and little work, for fleets whose broker carries little at a time."""

from __future__ import annotations

from torch import nn


def wide() -> nn.Module:
    """17 MB of parameters for pictures of 1x8x8: 170 chunks of 100 kB."""
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2048), nn.ReLU()),
        nn.Sequential(nn.Linear(2048, 2048), nn.ReLU()),
        nn.Linear(2048, 10),
    )
