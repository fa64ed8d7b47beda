"""Calibrates a machine: measures the memory and time that training takes beyond its tensors, with a few small networks.

Calibration must run in a process of its own that ends afterwards: the first train steps of a process take memory that
later ones do not, and tracing loads more of PyTorch than training does. It does not need the fleet's model: the step
table describes that, and the calibration is valid for all models. No network takes more than 40 MB, so that small
devices can run them. ``op_benchmarks.py`` measures the speed of the operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlp_edge.core.blueprint import DepthCost
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.prediction import ANY_DEVICE, epoch_seconds
from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.core.step_cost import StepCost, peak_bytes
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.allocator import allocate_exactly, cached_allocation, in_new_thread
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.profiling.op_benchmarks import measure_operation_costs
from fedlp_edge.learning.profiling.step_trace import trace_steps
from fedlp_edge.learning.rng import seeded
from fedlp_edge.learning.training.compute_modes import COMPUTE
from fedlp_edge.learning.training.step import TrainStep, train_steps

_CLASSES = 10
_STEPS = 3
"""Train steps in a measurement of memory."""

_TRUSTED = 0.5, 2.0
"""Least and greatest ratio of a measured number to the built-in one; beyond them the measurement was disturbed."""


@dataclass(frozen=True)
class _Trial:
    """A small network that uses mainly one kind of operation.

    Attributes:
        layer: Function that makes its module.
        shape: Shape of one sample.
        features: Values per sample that its head gets, after pooling.
        batch: Samples of a train step.
    """

    layer: Callable[[], nn.Module]
    shape: tuple[int, ...]
    features: int
    batch: int


def _convolutions() -> nn.Module:
    return nn.Sequential(*_convolution(3, 32), *_convolution(32, 32), *_convolution(32, 64), nn.MaxPool2d(2))


def _depthwise() -> nn.Module:
    layers: list[nn.Module] = [*_convolution(3, 48)]
    for _ in range(3):
        layers += [*_convolution(48, 48, groups=48), nn.Conv2d(48, 48, 1, bias=False), nn.BatchNorm2d(48)]
    return nn.Sequential(*layers)


def _deep() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(12) for layer in _convolution(16, 16)))


def _products() -> nn.Module:
    products = [nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 1024)]
    return nn.Sequential(*products, nn.Unflatten(1, (1024, 1, 1)))


def _convolution(given: int, wanted: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(given, wanted, 3, padding=1, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(wanted), nn.ReLU()]


def _elementwise() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 12, 1)]
    for _ in range(5):
        layers += [nn.BatchNorm2d(12), nn.ReLU()]
    return nn.Sequential(*layers)


_TRIALS = (
    _Trial(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (1, 8, 8), 4, 8),
    _Trial(_elementwise, (3, 48, 48), 12, 16),
    _Trial(lambda: nn.Sequential(*_convolution(16, 32), *_convolution(32, 32)), (16, 14, 14), 32, 16),
    _Trial(_convolutions, (3, 40, 40), 64, 12),
    _Trial(_depthwise, (3, 32, 32), 48, 12),
    _Trial(_deep, (16, 16, 16), 16, 16),
    _Trial(_products, (2048, 1, 1), 1024, 32),
)


@dataclass(frozen=True)
class _Found:
    """The measurements of one trial.

    Attributes:
        step: Step table of the network.
        batch: Samples of a train step.
        live: Bytes of live tensors at the highest moment, by the step table, with the state of the optimizer.
        peak: Measured bytes on top of the idle process.
        seconds: Seconds of the fastest train step with cached allocation.
        exact_seconds: Seconds of the fastest train step with exact allocation.
    """

    step: StepCost
    batch: int
    live: float
    peak: int
    seconds: float
    exact_seconds: float


def calibrate(
    device: torch.device,
    mode: ComputeMode = "float32",
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Trains the small networks and fits the numbers of a calibration to their memory and time.

    Args:
        device: Device that trains. Only a CPU is measured; for CUDA the built-in numbers are returned.
        mode: Compute mode.
        repeats: Train steps that are timed for each network; the fastest one counts.
        clock: Function that returns the time in seconds.
    """
    if device.type != "cpu":
        return ANY_DEVICE
    allocate_exactly()
    found = [_try(trial, device, mode, repeats, clock) for trial in _TRIALS]
    base, exact = _fit_memory(found)
    with cached_allocation():
        paces = in_new_thread(lambda: measure_operation_costs(repeats, clock))
    slowdown = max(1.0, float(np.median([one.exact_seconds / one.seconds for one in found])))
    measured = Calibration(base=base, exact=exact, cached=ANY_DEVICE.cached, paces=paces, slowdown=slowdown)
    measured = msgspec.structs.replace(measured, step=max(0.0, found[0].seconds - _predicted(found[0], measured)))
    # A sequence of operations takes somewhat longer than the sum of each of them alone.
    ratio = float(np.median([one.seconds / _predicted(one, measured) for one in found[1:]]))
    return msgspec.structs.replace(measured, correction=_trusted(ratio, 1.0))


def _predicted(one: _Found, measured: Calibration) -> float:
    """Returns the predicted seconds of a train step of a trial."""
    cost = DepthCost(depth=1, parameters=0, forward_macs=0, activation_bytes=0, step=one.step)
    return epoch_seconds(cost, TrainingSettings(batch_size=one.batch), one.batch, 0.0, measured)


def _try(trial: _Trial, device: torch.device, mode: ComputeMode, repeats: int, clock: Callable[[], float]) -> _Found:
    with seeded(0):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(trial.features, _CLASSES))
        sample = torch.zeros(1, *trial.shape)
        model = LayeredModel([("trial", trial.layer())], [("head", head)], sample, classes=_CLASSES)
    (step,) = trace_steps(model, model.sample, macs=0)
    part = model.submodel(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(trial.batch, *trial.shape, generator=generator)
    y = torch.randint(_CLASSES, (trial.batch,), generator=generator)

    meter = limits.PeakMeter(device)
    meter.start()
    for make in _steps(part, x, y, mode):
        for _ in range(_STEPS):
            make()
    peak = meter.stop()
    exact_seconds = _fastest(part, x, y, mode, repeats, clock)
    with cached_allocation():
        seconds = in_new_thread(lambda: _fastest(part, x, y, mode, repeats, clock))
    trained = 4 * sum(parameter.numel() for parameter in part.parameters())
    live = peak_bytes(step.memory_points, trial.batch) + trained  # The optimizer stores a momentum for each parameter.
    return _Found(step, trial.batch, live, peak, seconds, exact_seconds)


def _fastest(
    model: Submodel, x: Tensor, y: Tensor, mode: ComputeMode, repeats: int, clock: Callable[[], float]
) -> float:
    """Returns the seconds of the fastest train step, since other work of the machine only adds time."""
    best = float("inf")
    for make in _steps(model, x, y, mode):
        make()
        for _ in range(repeats):
            start = clock()
            make()
            best = min(best, clock() - start)
    return best


def _steps(model: Submodel, x: Tensor, y: Tensor, mode: ComputeMode) -> Iterator[Callable[[], Tensor]]:
    compute = COMPUTE[mode]
    if compute.channels_last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    with train_steps(model, TrainingSettings(batch_size=len(y), lr=1e-4), y, compute) as step:
        yield _bound(step, x, y)


def _bound(step: TrainStep, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    return lambda: step(x, y)


def _fit_memory(found: list[_Found]) -> tuple[float, float]:
    """Fits base and factor on live tensors; both at least the built-in ones, which larger networks need."""
    base, factor = _straight_line(np.array([one.live for one in found]), np.array([float(one.peak) for one in found]))
    return (
        max(ANY_DEVICE.base, _trusted(base, ANY_DEVICE.base)),
        max(ANY_DEVICE.exact, _trusted(factor, ANY_DEVICE.exact)),
    )


def _straight_line(live: npt.NDArray[np.float64], taken: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Returns constant and factor of the line from ``live`` to ``taken`` with the least squared relative errors."""
    rows = np.stack([1.0 / taken, live / taken], axis=1)
    (constant, factor), *_ = np.linalg.lstsq(rows, np.ones(len(taken)), rcond=None)
    return float(constant), float(factor)


def _trusted(measured: float, built_in: float) -> float:
    low, high = _TRUSTED
    return min(max(measured, low * built_in), high * built_in)
