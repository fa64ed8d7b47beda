"""Models and samples on which the tests of compute modes try how a processor computes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset, load_data

CPU = torch.device("cpu")
TRAINING = TrainingSettings(batch_size=8)


class SpoiltInBfloat16(nn.Module):
    """Fine in float32; in bfloat16 its answers are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits * math.nan if logits.dtype == torch.bfloat16 else logits


def pooled_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


def digits(limit: int = 100) -> Dataset:
    return load_data(f"digits#limit={limit}")
