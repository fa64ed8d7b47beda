"""Measures how fast this machine does each kind of operation, with a few operations of every kind in typical sizes.

Libraries choose their code by the shapes of the tensors, so that one speed for all operations is wrong by a factor of
ten: a convolution of few pixels and many channels spends its time on its weights, a depthwise one on moving pixels, a
small one on the call itself. Each trial is one operation, forward and backward. ``step_trace.py`` counts its work, and
four numbers per kind are fitted to the seconds that the trials took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlp_edge.core.planning.calibration import OperationCost
from fedlp_edge.core.step_cost import Kind, Work
from fedlp_edge.learning.profiling.step_trace import trace_work
from fedlp_edge.learning.rng import seeded

_BATCH = 16
_CACHE = 16 << 20
"""Bytes that are written before each trial, since in a network other layers evict an operation's data from caches."""

_ENOUGH = 0.1
"""Seconds after which a trial is not repeated: on a slow board trials take long and vary little."""

_MIN_SHARE = 0.1
"""Least share of a trial's time that is attributed to its own kind, however much the other operations in it take."""


@dataclass(frozen=True)
class _Trial:
    """One operation to be timed.

    Attributes:
        make: Function that makes its module.
        shape: Shape of one sample.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


def measure_operation_costs(repeats: int, clock: Callable[[], float]) -> dict[Kind, OperationCost]:
    """Times all trials on the CPU and fits the cost of each kind of operation.

    Args:
        repeats: Repetitions of each trial; the fastest one counts, since other work of the machine only adds time.
        clock: Function that returns the time in seconds.
    """
    paces: dict[Kind, OperationCost] = {}
    # Every trial contains elementwise operations, such as adding gradients, so that kind must be known first.
    for kind, trials in _TRIALS.items():
        works, seconds = [], []
        for trial in trials:
            done, taken = _timed(trial, repeats, clock)
            beside = sum(
                _BATCH * pace.sample(done[other]) + pace.step(done[other])
                for other, pace in paces.items()
                if other != kind and other in done
            )
            works.append(done[kind])
            seconds.append(max(taken - beside, _MIN_SHARE * taken))
        paces[kind] = fit(works, seconds, _BATCH)
    return paces


def fit(works: list[Work], seconds: list[float], batch: int) -> OperationCost:
    """Fits the cost of one kind of operation by non-negative least squares of the relative errors.

    Args:
        works: Work of each trial.
        seconds: Seconds of each trial.
        batch: Samples of a trial.
    """
    rows = np.array([[batch * w.macs, batch * w.moved, w.held, w.operations] for w in works], dtype=float)
    return OperationCost(*_non_negative(rows, np.array(seconds)))


def _timed(trial: _Trial, repeats: int, clock: Callable[[], float]) -> tuple[dict[Kind, Work], float]:
    with seeded(0):
        module = trial.make().train()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_BATCH, *trial.shape, generator=generator)

    gradient = torch.ones_like(module(x))

    def step(batch: int) -> None:
        for value in module.parameters():
            value.grad = None
        module(x[:batch].detach().requires_grad_()).backward(gradient[:batch])

    done = trace_work(step)
    step(_BATCH)
    others = torch.zeros(_CACHE // 4)
    best, spent = float("inf"), 0.0
    for _ in range(repeats):
        others.add_(1.0)
        start = clock()
        step(_BATCH)
        taken = clock() - start
        best, spent = min(best, taken), spent + taken
        if spent > _ENOUGH:
            break
    return done, best


def _convolution(given: int, wanted: int, size: int, pixels: int, groups: int = 1, stride: int = 1) -> _Trial:
    def make() -> nn.Module:
        return nn.Conv2d(given, wanted, size, stride, padding=size // 2, groups=groups, bias=False)

    return _Trial(make, (given, pixels, pixels))


def _depthwise(channels: int, size: int, pixels: int, stride: int = 1) -> _Trial:
    return _convolution(channels, channels, size, pixels, channels, stride)


class _Sum(nn.Module):
    """The addition at the end of a residual branch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.relu()


class _Joined(nn.Module):
    """The concatenation of two branches."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x * 2.0], dim=1)


class _Attention(nn.Module):
    """The matrix products of attention without its projections, for samples [tokens, width]."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ (x.transpose(1, 2) @ x)


_TRIALS: dict[Kind, tuple[_Trial, ...]] = {
    "elementwise": (
        _Trial(nn.ReLU, (32, 32, 32)),
        _Trial(nn.ReLU, (64, 8, 8)),
        _Trial(nn.ReLU, (16, 2, 2)),
        _Trial(nn.SiLU, (64, 16, 16)),
        _Trial(_Sum, (64, 16, 16)),
        _Trial(_Sum, (256, 2, 2)),
        _Trial(_Joined, (48, 16, 16)),
    ),
    "convolution": (
        _convolution(3, 32, 3, 32),
        _convolution(3, 48, 7, 32, stride=2),
        _convolution(32, 32, 3, 16),
        _convolution(64, 64, 3, 16),
        _convolution(64, 96, 3, 32),
        _convolution(128, 192, 3, 16),
        _convolution(16, 64, 3, 8),
        _convolution(128, 128, 3, 8),
        _convolution(128, 32, 3, 4),
        _convolution(256, 256, 3, 4),
        _convolution(256, 256, 3, 2),
        _convolution(320, 320, 3, 2),
        _convolution(24, 96, 1, 16),
        _convolution(128, 64, 1, 16),
        _convolution(256, 128, 1, 8),
        _convolution(64, 128, 1, 8, stride=2),
        _convolution(480, 96, 1, 4),
        _convolution(640, 128, 1, 2),
        _convolution(1152, 192, 1, 2),
        _convolution(96, 8, 1, 1),
        _convolution(480, 24, 1, 1),
    ),
    "grouped": (
        _convolution(48, 48, 3, 16, groups=6),
        _convolution(128, 128, 3, 16, groups=32),
        _convolution(104, 104, 3, 8, groups=13),
        _convolution(256, 256, 3, 8, groups=32),
        _convolution(208, 208, 3, 4, groups=26),
        _convolution(512, 512, 3, 4, groups=32),
        _convolution(440, 440, 3, 4, groups=55, stride=2),
    ),
    "depthwise": (
        _depthwise(32, 3, 32),
        _depthwise(96, 3, 32, stride=2),
        _depthwise(144, 3, 16),
        _depthwise(192, 3, 8),
        _depthwise(384, 3, 4),
        _depthwise(116, 3, 8, stride=2),
        _depthwise(576, 3, 2),
        _depthwise(960, 3, 2),
        _depthwise(232, 3, 2),
    ),
    "wide-depthwise": (
        _depthwise(72, 5, 16, stride=2),
        _depthwise(120, 5, 8),
        _depthwise(240, 5, 4),
        _depthwise(480, 5, 4),
        _depthwise(672, 5, 2),
        _depthwise(96, 7, 8),
        _depthwise(192, 7, 4),
    ),
    "product": (
        _Trial(lambda: nn.Linear(784, 256), (784,)),
        _Trial(lambda: nn.Linear(512, 10), (512,)),
        _Trial(lambda: nn.Linear(1024, 1024), (1024,)),
        _Trial(lambda: nn.Linear(96, 384), (64, 96)),
        _Trial(lambda: nn.Linear(384, 384), (16, 384)),
        _Trial(lambda: nn.Linear(768, 768), (4, 768)),
        _Trial(_Attention, (32, 64)),
    ),
    "normalization": (
        _Trial(lambda: nn.BatchNorm2d(32), (32, 32, 32)),
        _Trial(lambda: nn.BatchNorm2d(96), (96, 16, 16)),
        _Trial(lambda: nn.BatchNorm2d(128), (128, 8, 8)),
        _Trial(lambda: nn.BatchNorm2d(256), (256, 4, 4)),
        _Trial(lambda: nn.BatchNorm2d(512), (512, 2, 2)),
        _Trial(lambda: nn.BatchNorm2d(24), (24, 8, 8)),
        _Trial(lambda: nn.LayerNorm(96), (64, 96)),
    ),
    "pooling": (
        _Trial(lambda: nn.MaxPool2d(2), (16, 28, 28)),
        _Trial(lambda: nn.MaxPool2d(2), (64, 16, 16)),
        _Trial(lambda: nn.MaxPool2d(3, 2, padding=1), (64, 32, 32)),
        _Trial(lambda: nn.MaxPool2d(3, 2), (32, 15, 15)),
        _Trial(lambda: nn.AvgPool2d(2), (64, 8, 8)),
    ),
}


def _non_negative(rows: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> Iterator[float]:
    """Yields non-negative coefficients with the least squared relative errors, by coordinate descent."""
    scale = np.maximum(rows.max(axis=0), 1e-30)
    scaled = rows / scale / wanted[:, None]
    products, targets = scaled.T @ scaled, scaled.sum(axis=0)
    result = np.zeros(rows.shape[1])
    for _ in range(2000):
        before = result.copy()
        for column in np.flatnonzero(products.diagonal()):
            rest = targets[column] - products[column] @ result
            result[column] = max(0.0, result[column] + rest / products[column, column])
        if np.allclose(result, before, rtol=1e-9, atol=0.0):
            break
    return (float(value) for value in result / scale)
