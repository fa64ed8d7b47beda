"""Which compute mode is the fastest correct one for a model on this processor: a trial of a second.

Every mode makes the same few steps from the same weights, in turns, so that whatever else the machine does hits all
of them; the fastest step of each counts, since interference only ever adds time. A mode is out if its loss is not a
number, begins elsewhere than float32's, or falls clearly less. And a faster mode must be faster by a margin, or noise
would decide: the choice would change from start to start, and with it the last bits of what is learned.

Each mode works within the memory that training will have. Libraries make a kernel for each size of a batch, so a mode
also makes a step on a last batch, which is smaller, and on a single sample, and is out if it fails there while float32
does not.
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
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates
from fedlp_edge.learning.training.fallback import reason_of
from fedlp_edge.learning.training.loop import DivergedError
from fedlp_edge.learning.training.step import train_steps

MARGIN = 1.15
"""How many times faster a mode must be than every more exact one that could be taken instead."""

SHORT_OF_MEMORY = "too little memory"
"""Why a mode is out that needs more than this process may take."""

_SECONDS = 0.8
_SWEEPS = 3
_STEPS = 6  # of a mode in a sweep, at most; at least two in the first sweep: the first step of all makes kernels


class Choice(msgspec.Struct, frozen=True):
    """What a trial came to.

    Attributes:
        compute: the mode to use.
        seconds: of the fastest step, by mode.
        refused: why a mode is out, for people.
        short: bytes that training was given when memory ran out in a mode, or with ``cached`` allocation.
        plain: why techniques that save memory, and fused kernels, are left out; empty if they are not.
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
) -> Choice:
    """Measures the modes that make sense and chooses; the model and all random numbers are left as they were.

    Takes about a second where a step takes milliseconds, and some steps of every mode where it takes longer.

    Args:
        model: on ``device``, with any finite values.
        data: samples of the device; one batch of them is used.
        settings: batch size, optimizer and objective.
        device: where the model is.
        modes: to try, plain float32 among them; by default those that make sense.
        start: puts the same values into the model every time; by default the trial keeps a copy of those it has.
        limit: holds what a mode does to the memory that training will have; None where that is not limited.

    Raises:
        Exception: float32 itself fails, as training would.
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
                    # All batches within one limit, as in training: the kernels of each size stay.
                    with nullcontext() if limit is None else limit():
                        restore()
                        steps = _Steps(model, data, settings, device, name)
                        made = steps.measured(least=2 if sweep == 0 else 1)
                        if sweep == 0:
                            sizes = steps.of_sizes(sizes)
                except Exception as error:  # whatever a kernel that lacks this mode raises
                    if name == "float32":
                        raise
                    short = limits.is_out_of_memory(error, limited=limit is not None)
                    refused[name] = SHORT_OF_MEMORY if short else reason_of(error)
                    continue
                losses.setdefault(name, [loss for loss, _ in made])
                seconds[name] = min(seconds.get(name, math.inf), *(taken for _, taken in made))
            if time.perf_counter() - begun > _SECONDS:
                break
    refused |= judge(losses)
    return Choice(fastest({name: taken for name, taken in seconds.items() if name not in refused}), seconds, refused)


def judge(losses: dict[ComputeMode, list[float]]) -> dict[ComputeMode, str]:
    """Why modes are out, by their losses before each of the same steps; float32's are the measure."""
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
    # Where float32 itself diverges there is nothing to measure by: the most exact mode is the best there is.
    return {name: "float32 diverges" for name in losses if name != "float32"} if "float32" in out else out


def fastest(seconds: dict[ComputeMode, float]) -> ComputeMode:
    """The most exact mode, unless a less exact one is faster by the margin, and so on up."""
    best: ComputeMode = "float32"
    for name in COMPUTE:
        if name in seconds and seconds[name] * MARGIN <= seconds[best]:
            best = name
    return best


def _smaller_batches(samples: int, batch_size: int) -> tuple[int, ...]:
    """Of the last batch of an epoch, and of a single sample."""
    return tuple(
        size for size in sorted({samples % batch_size, 1}, reverse=True) if 0 < size < min(samples, batch_size)
    )


class _Steps:
    """Steps of one mode on the first batch of the data.

    Args:
        model: to train, from the values that it has.
        data: of the device.
        settings: batch size, optimizer and objective.
        device: where the model is.
        name: of the mode.
    """

    def __init__(
        self, model: nn.Module, data: Dataset, settings: TrainingSettings, device: torch.device, name: ComputeMode
    ) -> None:
        self._model = model
        self._settings = settings
        self._labels = data.y
        self._name = name
        self._x, self._y = (part.to(device) for part in data.batch(slice(0, settings.batch_size)))
        if COMPUTE[name].channels_last and self._x.ndim == 4:
            self._x = self._x.contiguous(memory_format=torch.channels_last)

    def measured(self, least: int) -> list[tuple[float, float]]:
        """Makes steps on the whole batch; returns loss and seconds of each."""
        # One thread's own time leaves out what other processes take; where several work together there is no such
        # clock.
        alone = self._x.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter
        made: list[tuple[float, float]] = []
        with train_steps(self._model, self._settings, self._labels, COMPUTE[self._name]) as step:
            share = time.perf_counter() + _SECONDS / (_SWEEPS * len(COMPUTE))
            while len(made) < least or (len(made) < _STEPS and time.perf_counter() < share):
                start = clock()
                loss = float(step(self._x, self._y))  # waits for a GPU
                made.append((loss, clock() - start))
        return made

    def of_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Makes a step on a batch of each of these sizes; returns those that float32 bears.

        Raises:
            Exception: this mode, which is not float32, fails where float32 does not.
        """
        borne = []
        for size in sizes:
            with train_steps(self._model, self._settings, self._labels, COMPUTE[self._name]) as step:
                try:
                    finite = math.isfinite(float(step(self._x[:size], self._y[:size])))
                except Exception:  # batch normalisation, for one, cannot train on a single sample
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
    """Gives what puts the model's values back, and does so at the end."""
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
