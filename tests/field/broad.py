"""A model of some long messages and little work."""

from __future__ import annotations

from torch import nn


def broad() -> nn.Module:
    """1.2 MB of parameters for pictures of 1x8x8: five chunks of the usual size."""
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU()),
        nn.Sequential(nn.Linear(512, 512), nn.ReLU()),
        nn.Linear(512, 10),
    )
