"""A model of two linear layers whose updates can be worked out by hand.

Two equal samples of 1 with class 0 and equal logits give the gradient (-1/2, 1/2) for the logits. With a learning rate
of 1, one step therefore changes the first layer by (1/2, -1/2), and the second layer by (1/2, -1/2) for each input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.learning.model.layered import LayeredModel

NAME = "tests.two_layers:two_layers"
SETTINGS = ModelSettings(name=NAME, input=(1,), classes=2)
PERSONAL = ModelSettings(name=NAME, input=(1,), classes=2, head_mode="personal")
ONE_STEP = TrainingSettings(lr=1.0, momentum=0.0, batch_size=2, epochs=1, compute="float32")
LAYERS = {"L1": ("L1.weight",), "L2": ("L2.weight",)}
"""Tensors of the two layers, by unit id."""

VALUES = {
    "L1.weight": [[1.0], [1.0]],
    "L2.weight": [[1.0, 0.0], [0.0, 1.0]],
    "H1.weight": [[1.0, 0.0], [0.0, 1.0]],
    "H2.weight": [[1.0, 0.0], [0.0, 1.0]],
}
"""Initial values by tensor, whatever the seed."""


def two_layers() -> LayeredModel:
    """Layers and heads with the values above."""
    values = [linear(torch.tensor(rows)) for rows in VALUES.values()]
    layers, heads = [("one", values[0]), ("two", values[1])], [("early", values[2]), ("late", values[3])]
    return LayeredModel(layers, heads, torch.ones(1, 1), classes=2)


def linear(weight: Tensor) -> nn.Linear:
    """A linear layer without bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.load_state_dict({"weight": weight})
    return layer


def write_samples(path: Path, train: tuple[float, ...], test: tuple[float, ...] = ()) -> str:
    """Writes samples of one number each, of which those below zero are of class 1; returns their specification."""

    def columns(x: tuple[float, ...]) -> tuple[object, object]:
        return np.array(x, np.float32)[:, None], np.array([int(value < 0) for value in x])

    (x_train, y_train), (x_test, y_test) = columns(train), columns(test)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return f"npz:{path}"
