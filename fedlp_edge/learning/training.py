"""One round of local training.

The caller loads the model with the round's values, this changes it in place, and the caller takes the
deltas. Everything random is a function of the round's seed, so the same task on the same machine gives
the same bits, however often it is repeated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.learning.data import Dataset
from fedlp_edge.learning.objectives import Objective, make_objective
from fedlp_edge.learning.optimizers import Optimizer, make_optimizer


class Diverged(WorkerError):
    """The loss or a weight is no longer a finite number."""

    def __init__(self) -> None:
        super().__init__("training diverged (the loss is no longer a number): lower [training] lr")


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a round of training reports.

    Attributes:
        loss: mean of the objective over the last epoch; plain cross-entropy unless the settings add to it.
        samples: seen per epoch.
        seconds: of wall time.
    """

    loss: float
    samples: int
    seconds: float


def train_round(
    model: nn.Module,
    data: Dataset,
    settings: TrainingSettings,
    *,
    seed: int,
    device: torch.device,
    trainable: Collection[str] | None = None,
) -> TrainingOutcome:
    """Trains a model in place.

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

    Raises:
        DataError: there are fewer than two samples.
        Diverged: the loss is not finite.
    """
    if len(data) < 2:
        raise DataError("training needs two samples at least, and this device has one: give it more data")
    start = time.perf_counter()
    torch.manual_seed(seed)
    data = data.to(device)
    model.train()
    with _only(model, trainable) as parameters:
        optimizer = make_optimizer(parameters, settings) if parameters else None
        objective = make_objective(settings.objective, data.y, parameters)
        for epoch in range(settings.epochs):
            order = sample_order(len(data), settings.batch_size, seed, epoch)
            loss, samples = _train_epoch(model, data, order, objective, optimizer)
    return TrainingOutcome(loss=loss, samples=samples, seconds=time.perf_counter() - start)


def _train_epoch(
    model: nn.Module, data: Dataset, batches: Iterator[Tensor], objective: Objective, optimizer: Optimizer | None
) -> tuple[float, int]:
    """One pass; without an optimizer nothing is trained and only BatchNorm statistics move.

    Returns:
        Mean loss, and the number of samples seen.
    """
    total = torch.zeros((), dtype=torch.float64, device=data.x.device)
    samples = 0
    for indices in batches:
        x, y = data.batch(indices.to(data.x.device))
        loss = objective(model, x, y)
        if optimizer is not None:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        # Added up where it is: reading it at every step would make a GPU wait for the CPU.
        total += loss.detach() * len(y)
        samples += len(y)
    mean = total.item() / samples
    if not math.isfinite(mean):
        raise Diverged
    return mean, samples


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


@contextmanager
def _only(model: nn.Module, trainable: Collection[str] | None) -> Iterator[list[nn.Parameter]]:
    """Freezes all parameters but those named, and leaves the model as it was found, without gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and (trainable is None or name in trainable))
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        for parameter, flag in before:
            parameter.grad = None
            parameter.requires_grad_(flag)
