"""One round of local training.

The caller loads the model with the round's values, this changes it in place, and the caller takes the
deltas. Everything random is a function of the round's seed, so the same task on the same machine gives
the same bits, however often it is repeated, as long as it is computed in the same mode.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.training.compute_modes import COMPUTE
from fedlp_edge.learning.training.step import TrainStep, train_steps


class DivergedError(WorkerError):
    """The loss or a weight is no longer a finite number, or a weight has run away."""

    def __init__(self, sign: str = "the loss is no longer a number") -> None:
        super().__init__(f"training diverged ({sign}): lower [training] lr, or bring the inputs to about -1 to 1")


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a round of training reports.

    Attributes:
        loss: mean of the objective over the last epoch; plain cross-entropy unless the settings add to it.
        samples: seen per epoch; fewer than there are only if time ran out in the first.
        seconds: of wall time.
        seen: samples over all epochs, those seen twice counted twice.
        compute: the mode that the result was computed in.
        finished: whether there was time for all batches of all epochs.
    """

    loss: float
    samples: int
    seconds: float
    seen: int
    compute: ComputeMode
    finished: bool


def train_round(
    model: nn.Module,
    data: Dataset,
    settings: TrainingSettings,
    *,
    seed: int,
    device: torch.device,
    trainable: Collection[str] | None = None,
    compute: ComputeMode | None = None,
    fused: bool = True,
    budget: float | None = None,
) -> TrainingOutcome:
    """Trains a model in place, in one way; `fallback.trained` tries others where that one fails.

    Args:
        model: on ``device``, holding the values at the start of the round; gives logits [B, classes]. Of a
            `Submodel` all exits that it holds are trained.
        data: the device's samples.
        settings: epochs, batch size, optimizer and objective.
        seed: of the sample order and of dropout (through PyTorch's global generator, so call this in a
            process of its own).
        device: where the model is.
        trainable: names of the parameters to train; the others are frozen, which saves their gradients,
            their optimizer state and the backward pass below the first trained one. None trains all.
        compute: how to compute; by default what the settings name, and ``float32`` where they leave it open
            (`ComputeChoices` finds the fastest).
        fused: whether the optimizer may use fused kernels.
        budget: seconds after which no further batch is begun; one batch is trained in any case. None for no limit.
            How far a limited round gets depends on the machine's mood, and so does its result.

    Raises:
        DataError: there are fewer than two samples.
        DivergedError: the loss or a weight is not finite.
    """
    if len(data) < 2:
        raise DataError("training needs two samples at least, and this device has one: give it more data")
    begun = time.perf_counter()
    until = math.inf if budget is None else begun + budget
    mode = COMPUTE[compute or (settings.compute if settings.compute != "auto" else "float32")]
    data = data.to(device)
    torch.manual_seed(seed)
    epochs = []
    with train_steps(model, settings, data.y, mode, trainable, fused=fused) as step:
        for number in range(settings.epochs):
            order = sample_order(len(data), settings.batch_size, seed, number)
            epochs.append(_train_epoch(step, data.batches(order, channels_last=mode.channels_last), until))
            if time.perf_counter() >= until:
                break
        # No loss has seen the last step's weights.
        if not all(bool(parameter.isfinite().all()) for parameter in step.parameters):
            raise DivergedError
    seen = sum(epoch.samples for epoch in epochs)
    return TrainingOutcome(
        loss=epochs[-1].loss,
        samples=epochs[0].samples,
        seconds=time.perf_counter() - begun,
        seen=seen,
        compute=mode.name,
        finished=seen == settings.epochs * _epoch_samples(len(data), settings.batch_size),
    )


@dataclass(frozen=True, slots=True)
class _Epoch:
    loss: float
    samples: int


def _train_epoch(step: TrainStep, batches: Iterator[tuple[Tensor, Tensor]], until: float) -> _Epoch:
    """One pass, or as much of it as there is time for."""
    total: Tensor | float = 0.0
    samples = 0
    for x, y in batches:
        # Added up where it is: reading it at every step would make a GPU wait for the CPU.
        total += step(x, y).double() * len(y)
        samples += len(y)
        if time.perf_counter() >= until:
            break
    mean = float(total) / samples
    if not math.isfinite(mean):
        raise DivergedError
    return _Epoch(mean, samples)


def _epoch_samples(count: int, batch_size: int) -> int:
    """How many samples ``sample_order`` yields."""
    return count - 1 if count % batch_size == 1 and batch_size > 1 else count


def sample_order(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Index batches of one epoch in a seeded order.

    The last batch may be smaller. A single sample left over is skipped, since BatchNorm cannot train on
    it; the order differs from epoch to epoch, so no sample is skipped for good.

    Args:
        count: number of samples.
        batch_size: of all batches but the last.
        seed: of the round.
        epoch: from 0.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))
    for start in range(0, count, batch_size):
        batch = order[start : start + batch_size]
        if len(batch) > 1 or batch_size == 1:
            yield batch
