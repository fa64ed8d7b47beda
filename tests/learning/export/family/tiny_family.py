"""A tiny model of pictures, from which the files of a family are written."""

from __future__ import annotations

import torch
from torch import nn

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.layered import LayeredModel

LABELS = torch.arange(40) % 2


def a_model(outputs: int) -> LayeredModel:
    """Two convolutions, the first with a weak head and the second with one that tells bright from dark pictures."""
    torch.manual_seed(1)
    layers = [(f"l{number}", nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())) for number in (1, 2)]
    heads = [(f"h{number}", nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))) for number in (1, 2)]
    for _, layer in layers:
        nn.init.constant_(layer[0].weight, 0.2)
        nn.init.zeros_(layer[0].bias)
    if outputs == 2:
        for number, (_, head) in enumerate(heads, start=1):
            head[1].weight.data = torch.stack([torch.full((16,), -0.1), torch.full((16,), 0.1)]) * number
            head[1].bias.data = torch.tensor([1.0, -1.0]) * (2.0, 5.5)[number - 1]
    return LayeredModel(layers, heads, torch.zeros(1, 1, 4, 4), classes=outputs)


def pictures(y: torch.Tensor, targets: str = "class") -> Dataset:
    bright = torch.where(LABELS == 1, 200, 60)[:, None, None, None]
    x = (bright + torch.randint(0, 40, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    return Dataset.of_tensor(x, y, ("dark", "bright"), 1 / 255, (0.0,), (0.5,), targets=targets)
