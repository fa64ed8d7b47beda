"""Finds the fastest correct compute mode for a model on this processor in a trial of about a second.

All modes make a few train steps from the same weights, in turns, so that other work of the machine affects all of them;
the fastest train step of each counts, since other work only adds time. A mode is refused if its loss is not a number,
starts at another value than with float32, or falls clearly less. A faster mode must be faster by a margin: otherwise
noise would decide, and the choice and the last bits of the learned weights would change from start to start.

The trial has the memory limit of training. Libraries make a kernel for each batch size, so each mode also makes a train
step on a smaller last batch and on a single sample, and is refused if it fails there while float32 does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec
import torch
from torch import nn

from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.rng import preserved
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates
from fedlp_edge.learning.training.fallback import reason_of
from fedlp_edge.learning.training.loop import DivergedError
from fedlp_edge.learning.training.step import train_steps

MARGIN = 1.15
"""Least ratio of the time of a more exact mode to that of the mode that is chosen instead."""

TOO_LITTLE_MEMORY = "too little memory"
"""Reason why a mode is refused that needs more memory than this process may take."""

_SECONDS = 0.8
"""Seconds after which no further sweep over all modes starts."""

_SWEEPS = 3
"""Largest number of sweeps over all modes."""

_STEPS = 6
"""Most train steps of a mode in a sweep. The first sweep makes at least two, since the first one makes kernels."""


class Choice(msgspec.Struct, frozen=True):
    """The result of a trial, and of failures in later rounds.

    Attributes:
        compute: Compute mode to use.
        seconds: Seconds of the fastest train step, by mode.
        refused: Reason why a mode must not be used, for people, by mode.
        short: Budget of training in bytes when memory ran out, by mode, or under ``"cached"`` for this allocator.
        plain: Reason why memory saving and fused kernels must not be used; empty if they may be.
    """

    compute: ComputeMode
    seconds: dict[ComputeMode, float] = {}
    refused: dict[ComputeMode, str] = {}
    short: dict[str, int] = {}
    plain: str = ""


def try_out(
    model: nn.Module,
    data: Dataset,
    settings: TrainingSettings,
    device: torch.device,
    modes: tuple[ComputeMode, ...] | None = None,
    start: Callable[[], None] | None = None,
    limit: Callable[[], AbstractContextManager[None]] | None = None,
    task: LearningTask | None = None,
) -> Choice:
    """Measures compute modes and chooses one; restores the model and the state of the random number generators.

    Takes about a second if a train step takes milliseconds, and otherwise a few train steps of every mode.

    Args:
        model: Model on ``device``, with any finite values.
        data: Samples of the device; one batch of them is used.
        settings: Batch size, optimizer and objective.
        device: Device of the model.
        modes: Modes to try, plain float32 among them; None for the `candidates`.
        start: Function that loads the values that each mode starts from; None to start from a copy of the present ones.
        limit: Function that returns a context with the memory limit of training; None if memory is not limited.
        task: What the model's outputs mean; None for classification.

    Raises:
        Exception: Plain float32 fails, as training would.
    """
    modes = modes or candidates(model, device)
    if len(modes) == 1:
        return Choice(modes[0])
    sizes = _smaller_batches(len(data), settings.batch_size)
    losses: dict[ComputeMode, list[float]] = {}
    seconds: dict[ComputeMode, float] = {}
    refused: dict[ComputeMode, str] = {}
    begun = time.perf_counter()
    with preserved(device), _restoring(model, start) as restore:
        for sweep in range(_SWEEPS):
            for name in modes if sweep % 2 == 0 else reversed(modes):
                if name in refused:
                    continue
                torch.manual_seed(0)
                try:
                    # One limit for all batch sizes, since in training the kernels of all sizes stay in memory, too.
                    with nullcontext() if limit is None else limit():
                        restore()
                        steps = _Steps(model, data, settings, device, name, task)
                        made = steps.measured(least=2 if sweep == 0 else 1)
                        if sweep == 0:
                            sizes = steps.of_sizes(sizes)
                except Exception as error:  # A kernel that lacks this mode may raise anything.
                    if name == "float32":
                        raise
                    short = limits.is_out_of_memory(error, limited=limit is not None)
                    refused[name] = TOO_LITTLE_MEMORY if short else reason_of(error)
                    continue
                losses.setdefault(name, [loss for loss, _ in made])
                seconds[name] = min(seconds.get(name, math.inf), *(taken for _, taken in made))
            if time.perf_counter() - begun > _SECONDS:
                break
    refused |= judge(losses)
    return Choice(fastest({name: taken for name, taken in seconds.items() if name not in refused}), seconds, refused)


def judge(losses: dict[ComputeMode, list[float]]) -> dict[ComputeMode, str]:
    """Refuses modes whose losses differ from those of float32.

    Args:
        losses: Loss before each train step, by mode; float32 among them.

    Returns:
        Reason for people, by refused mode.
    """
    reference = losses["float32"]
    out: dict[ComputeMode, str] = {}
    for name, those in losses.items():
        last = min(len(those), len(reference)) - 1
        if not all(math.isfinite(loss) for loss in those):
            out[name] = "its loss is not a number"
        elif abs(those[0] - reference[0]) > 0.02 * abs(reference[0]) + 0.01:
            out[name] = f"its loss begins at {those[0]:.4g}, float32's at {reference[0]:.4g}"
        elif those[last] > 1.1 * reference[last] + 0.05:
            out[name] = f"its loss falls to {those[last]:.4g}, float32's to {reference[last]:.4g}"
    # If float32 diverges, there is nothing to compare with, so only the most exact mode stays.
    return {name: "float32 diverges" for name in losses if name != "float32"} if "float32" in out else out


def fastest(seconds: dict[ComputeMode, float]) -> ComputeMode:
    """Returns the mode to use: a less exact mode replaces the chosen one only if it is faster by ``MARGIN``.

    Args:
        seconds: Seconds of the fastest train step, by mode; float32 among them.
    """
    best: ComputeMode = "float32"
    for name in COMPUTE:
        if name in seconds and seconds[name] * MARGIN <= seconds[best]:
            best = name
    return best


def _smaller_batches(samples: int, batch_size: int) -> tuple[int, ...]:
    """Returns the sizes, below that of a full batch, of the last batch of an epoch and of a single sample."""
    return tuple(
        size for size in sorted({samples % batch_size, 1}, reverse=True) if 0 < size < min(samples, batch_size)
    )


class _Steps:
    """The train steps of one mode on the first batch of the data.

    Args:
        model: Model to train, from its present values.
        data: Samples of the device.
        settings: Batch size, optimizer and objective.
        device: Device of the model.
        name: Compute mode.
        task: What the model's outputs mean; None for classification.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        settings: TrainingSettings,
        device: torch.device,
        name: ComputeMode,
        task: LearningTask | None = None,
    ) -> None:
        self._task = task
        self._model = model
        self._settings = settings
        self._labels = data.y.to(device)
        self._name = name
        self._x, self._y = (part.to(device) for part in data.batch(slice(0, settings.batch_size)))
        if COMPUTE[name].channels_last and self._x.ndim == 4:
            self._x = self._x.contiguous(memory_format=torch.channels_last)

    def measured(self, least: int) -> list[tuple[float, float]]:
        """Makes train steps on the whole batch; returns loss and seconds of each."""
        # The CPU time of a thread leaves out other processes, but it only measures training on a single thread.
        alone = self._x.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter
        made: list[tuple[float, float]] = []
        with train_steps(self._model, self._settings, self._labels, COMPUTE[self._name], task=self._task) as step:
            share = time.perf_counter() + _SECONDS / (_SWEEPS * len(COMPUTE))
            while len(made) < least or (len(made) < _STEPS and time.perf_counter() < share):
                start = clock()
                loss = float(step(self._x, self._y))  # float() waits until a GPU has finished.
                made.append((loss, clock() - start))
        return made

    def of_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Makes a train step on a batch of each of these sizes; returns the sizes for which it succeeds.

        Raises:
            Exception: The mode is not float32, and a train step fails.
        """
        borne = []
        for size in sizes:
            with train_steps(self._model, self._settings, self._labels, COMPUTE[self._name], task=self._task) as step:
                try:
                    finite = math.isfinite(float(step(self._x[:size], self._y[:size])))
                except Exception:  # Batch normalisation, for example, cannot train on a single sample.
                    if self._name != "float32":
                        raise
                    continue
            if finite:
                borne.append(size)
            elif self._name != "float32":
                raise DivergedError
        return tuple(borne)


@contextmanager
def _restoring(model: nn.Module, start: Callable[[], None] | None) -> Iterator[Callable[[], None]]:
    """Yields a function that restores the values of a model, and restores them and the modes at the end."""
    before = {name: value.clone() for name, value in model.state_dict().items()} if start is None else {}
    modes = {module: module.training for module in model.modules()}

    @torch.no_grad()
    def restore() -> None:
        for name, value in model.state_dict().items():
            value.copy_(before[name])

    try:
        yield start or restore
    finally:
        (start or restore)()
        for module, training in modes.items():
            module.training = training
