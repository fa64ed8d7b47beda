"""Makes the first train steps of a process before anything is measured.

The first train steps take memory that later ones do not: pages of code that runs for the first time (8 MB with PyTorch
2.15 on x86-64), threads, caches of compiled kernels. After a warm-up this memory belongs to the idle worker, and the
memory that a round takes on top of it is predictable.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.state_values import load_values, values_of
from fedlp_edge.learning.rng import seeded
from fedlp_edge.learning.state_files import StateFiles, save_tensors, save_values
from fedlp_edge.learning.training.local_round import changes
from fedlp_edge.learning.training.loop import train_round

_SAMPLES = 8
_BATCH = 4


def warm_up(device: torch.device) -> None:
    """Loads, trains and saves a tiny network as a round does, with each optimizer, and deletes its files.

    Args:
        device: Device that will train.
    """
    with seeded(0):
        model = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Linear(16, 4)),
        ).to(device)
        x = torch.zeros((_SAMPLES, 3, 16, 16), dtype=torch.uint8)
        data = Dataset.of_tensor(
            x, torch.arange(_SAMPLES) % 4, ("a", "b", "c", "d"), scale=1 / 255, mean=(0.5,), std=(0.5,)
        )
        with tempfile.TemporaryDirectory() as directory:
            path, names = Path(directory) / "state.safetensors", tuple(model.state_dict())
            save_values(model, path, names)
            state = StateFiles(path)
            for optimizer in ("sgd", "adam"):
                load_values(model, state, names)
                settings = TrainingSettings(batch_size=_BATCH, optimizer=optimizer, compute="float32")
                train_round(model, data, settings, seed=0, device=device)
                with state.open() as start:
                    update = changes(values_of(model, names[:2]), start, ())
                save_tensors(update, Path(directory) / "warm.safetensors", durable=False)
