"""Trains a model on the samples of a device for one round.

The caller loads the weights at the start of the round, `train_round` changes them in place, and the caller computes the
deltas. All random numbers are a function of the seed, so a task that is repeated on one machine in one compute mode
gives equal bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.rng import seed_everything
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.training.augment import Augment, make_augment
from fedlp_edge.learning.training.compute_modes import COMPUTE
from fedlp_edge.learning.training.sample_order import batches, epoch_order, samples_in_batches
from fedlp_edge.learning.training.step import TrainStep, train_steps


class DivergedError(WorkerError):
    """Training diverged: the loss or a weight is not a finite number, or a weight is far too large.

    Args:
        sign: What showed the divergence, for people.
    """

    def __init__(self, sign: str = "the loss is no longer a number") -> None:
        super().__init__(f"training diverged ({sign}): lower [training] lr, or bring the inputs to about -1 to 1")


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The report of a round of training.

    Attributes:
        loss: Mean of the objective over the last epoch; the task's plain loss unless the settings add terms.
        samples: Samples trained in the first epoch; fewer than the epoch has only if time ran out in it.
        seconds: Wall time in seconds.
        seen: Samples trained over all epochs; a sample counts once per epoch.
        compute: Compute mode of the training.
        finished: Whether there was time for all batches of all epochs.
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
    task: LearningTask | None = None,
    anchor: Mapping[str, Tensor] | None = None,
) -> TrainingOutcome:
    """Trains a model in place, in one execution; `fallback.trained` tries others if it fails.

    Args:
        model: Model on ``device`` with the weights at the start of the round; returns outputs [B, outputs]. Of a
            `Submodel`, all exits are trained.
        data: Samples of the device.
        settings: Epochs, batch size, optimizer, objective, balance of classes and augmentation.
        seed: Seed of the sample order, of augmentation and of dropout. It seeds the global generators of PyTorch,
            Python and numpy, so this function should run in a process of its own.
        device: Device of the model.
        trainable: Names of the parameters to train; None for all. The others are frozen, which saves their gradients,
            their optimizer state and the backward pass below the first trained parameter.
        compute: Compute mode; None for the one in the settings, and for ``float32`` if that is ``auto``
            (`ComputeCache` finds the fastest mode).
        fused: Whether the optimizer may use fused kernels.
        budget: Seconds after which no further batch starts; one batch is always trained. None for no limit. The result
            of a limited round depends on how fast the machine is at that time.
        task: What the model's outputs mean; None for classification.
        anchor: Values that the proximal term pulls parameters towards, as for `train_steps`.

    Raises:
        DataError: There are fewer than two samples, or the augmentation cannot take them.
        ModelError: The augmentation needs torchvision, which is not installed.
        DivergedError: The loss or a weight is not finite.
    """
    if len(data) < 2:
        raise DataError("training needs two samples at least, and this device has one: give it more data")
    begun = time.perf_counter()
    until = math.inf if budget is None else begun + budget
    mode = COMPUTE[compute or (settings.compute if settings.compute != "auto" else "float32")]
    labels = data.y.numpy(force=True)
    augment = make_augment(settings.augment, data)
    data = data.to(device)
    seed_everything(seed)
    epochs = []
    with train_steps(model, settings, data.y, mode, trainable, fused=fused, task=task, anchor=anchor) as step:
        for number in range(settings.epochs):
            order = batches(epoch_order(labels, settings.balance, seed, number), settings.batch_size)
            samples = data.batches(order, channels_last=mode.channels_last)
            if augment is not None:
                samples = _varied(samples, augment, seed, number)
            epochs.append(_train_epoch(step, samples, until))
            if time.perf_counter() >= until:
                break
        # The weights after the last train step have not been in any loss.
        if not all(bool(parameter.isfinite().all()) for parameter in step.parameters):
            raise DivergedError
    seen = sum(epoch.samples for epoch in epochs)
    return TrainingOutcome(
        loss=epochs[-1].loss,
        samples=epochs[0].samples,
        seconds=time.perf_counter() - begun,
        seen=seen,
        compute=mode.name,
        finished=seen == settings.epochs * samples_in_batches(len(data), settings.batch_size),
    )


@dataclass(frozen=True, slots=True)
class _Epoch:
    """The result of one epoch.

    Attributes:
        loss: Mean of the objective over the trained samples.
        samples: Number of trained samples.
    """

    loss: float
    samples: int


def _varied(
    samples: Iterator[tuple[Tensor, Tensor]], augment: Augment, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for number, (x, y) in enumerate(samples):
        yield augment(x, seed=seed, epoch=epoch, batch=number), y


def _train_epoch(step: TrainStep, samples: Iterator[tuple[Tensor, Tensor]], until: float) -> _Epoch:
    """Trains one epoch, or as many of its batches as there is time for."""
    total: Tensor | float = 0.0
    count = 0
    for x, y in samples:
        # Summed on the device: reading the loss at every train step would make the GPU wait for the CPU.
        total += step(x, y).double() * len(y)
        count += len(y)
        if time.perf_counter() >= until:
            break
    mean = float(total) / count
    if not math.isfinite(mean):
        raise DivergedError
    return _Epoch(mean, count)
