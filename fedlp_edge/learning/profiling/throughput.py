"""Measures how fast a processor trains, in multiply-accumulates per second.

A small convolutional network stands for all models: the planner needs the order of magnitude to compare devices and to
choose a first depth, and corrects it by the measured times of rounds.
"""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from fedlp_edge.learning.rng import seeded

_SIDE = 16
_CHANNELS = (3, 32, 32, 64)
_CLASSES = 10
_BATCH = 32
_BACKWARD_AND_FORWARD = 3
"""Cost of a train step in forward passes: a backward pass costs about two."""


def training_macs_per_second(device: torch.device, seconds: float = 0.3) -> float:
    """Returns the multiply-accumulates per second in training; a train step counts as three forward passes.

    Args:
        device: Processor to measure.
        seconds: Length of the measurement in seconds, after one train step of warm-up.
    """
    generator = torch.Generator().manual_seed(0)
    with seeded(0):
        model = _network().to(device)
    x = torch.randn(_BATCH, _CHANNELS[0], _SIDE, _SIDE, generator=generator).to(device)
    y = torch.randint(_CLASSES, (_BATCH,), generator=generator).to(device)
    _step(model, x, y)
    _wait(device)
    start = time.perf_counter()
    steps = 0
    while steps < 2 or time.perf_counter() - start < seconds:
        _step(model, x, y)
        steps += 1
        _wait(device)
    elapsed = time.perf_counter() - start
    return _BACKWARD_AND_FORWARD * _forward_macs() * _BATCH * steps / elapsed


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(_CHANNELS):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_CHANNELS[-1], _CLASSES))


def _forward_macs() -> int:
    """Returns the multiply-accumulates of one sample: 3x3 convolutions at full size, then one linear layer."""
    convolutions = sum(9 * a * b * _SIDE**2 for a, b in pairwise(_CHANNELS))
    return convolutions + _CHANNELS[-1] * _CLASSES


def _step(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-3)
            parameter.grad = None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
