"""This module measures accuracy and loss of the global model at every depth, on samples that no device trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.layered import LayeredModel


@dataclass(frozen=True, slots=True)
class Scores:
    """Holds accuracy and mean cross-entropy by depth, for each exit alone and for the ensemble of exits up to it.

    The ensemble of depth d predicts with the mean of the logits of the exits up to d, as DepthFL does (Kim et al.,
    ICLR 2023). Cross-entropy is convex in the logits, so the ensemble's loss is at most the mean of the exits' losses.

    Attributes:
        accuracy: Accuracy of each exit alone, 0 to 1, by depth.
        loss: Mean cross-entropy of each exit alone in nats, by depth; None if it is not finite.
        ensemble_accuracy: Accuracy of each ensemble, 0 to 1, by depth.
        ensemble_loss: Mean cross-entropy of each ensemble in nats, by depth; None if it is not finite.
        known_loss: Mean cross-entropy of each exit alone among the classes that occur in the data, by depth; empty if
            every class occurs.
    """

    accuracy: dict[int, float]
    loss: dict[int, float | None]
    ensemble_accuracy: dict[int, float]
    ensemble_loss: dict[int, float | None]
    known_loss: dict[int, float | None]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    logits_by_depth: Callable[[Tensor], Sequence[Tensor]],
    depths: Sequence[int],
    data: Dataset,
    batch_size: int = 256,
) -> Scores:
    """Measures accuracy and loss of several exits in one pass over the data.

    Args:
        model: Model on the same torch device as ``data``; it is left in evaluation mode.
        logits_by_depth: Function from samples [B, ...] to one logits tensor [B, classes] per entry of ``depths``,
            computed in one forward pass.
        depths: Depths of these exits, shallowest first.
        data: Held-out samples.
        batch_size: Samples per forward pass.
    """
    model.eval()
    alone, together, known = _Tally(depths), _Tally(depths), _Tally(depths)
    held = torch.unique(data.y)  # sorted
    lacking = False
    for start in range(0, len(data), batch_size):
        x, y = data.batch(slice(start, start + batch_size))
        total: Tensor | None = None
        for number, (depth, logits) in enumerate(zip(depths, logits_by_depth(x), strict=True), start=1):
            alone.add(depth, logits, y)
            lacking = lacking or len(held) < logits.shape[1]
            if lacking:
                known.add(depth, logits[:, held], torch.searchsorted(held, y))
            total = logits if total is None else total + logits
            together.add(depth, total / number, y)
    return Scores(
        accuracy=alone.accuracy(len(data)),
        loss=alone.mean_loss(len(data)),
        ensemble_accuracy=together.accuracy(len(data)),
        ensemble_loss=together.mean_loss(len(data)),
        known_loss=known.mean_loss(len(data)) if lacking else {},
    )


@torch.no_grad()
def try_samples(model: LayeredModel, data: Dataset, samples: int = 2) -> None:
    """Runs a few samples through every exit, so that a model that does not fit the data is refused before training.

    Args:
        model: Layered model; its training mode is restored afterwards.
        data: Samples on the model's torch device.
        samples: Number of samples to run.

    Raises:
        ModelError: The model raises an error on the samples, or an exit returns another shape than [B, classes].
    """
    training = model.training
    model.eval()
    x, y = data.batch(slice(0, samples))
    try:
        logits = model.exits(x)
    except Exception as error:  # users' layers may raise any type, and its text helps them
        raise ModelError(f"the model does not take the samples: {type(error).__name__}: {error}") from error
    finally:
        model.train(training)
    for depth, exit_logits in enumerate(logits, start=1):
        if exit_logits.shape != (len(y), model.classes):
            raise ModelError(f"exit {depth} gives {list(exit_logits.shape)} for {len(y)} samples, not logits")


class _Tally:
    """Sums correct predictions and cross-entropy by depth over the batches of one evaluation."""

    def __init__(self, depths: Sequence[int]) -> None:
        self._correct = dict.fromkeys(depths, 0)
        self._loss = dict.fromkeys(depths, 0.0)

    def add(self, depth: int, logits: Tensor, y: Tensor) -> None:
        self._correct[depth] += int((logits.argmax(dim=1) == y).sum())
        self._loss[depth] += float(functional.cross_entropy(logits, y, reduction="sum"))

    def accuracy(self, samples: int) -> dict[int, float]:
        return {depth: correct / samples for depth, correct in self._correct.items()}

    def mean_loss(self, samples: int) -> dict[int, float | None]:
        return {depth: _finite(loss / samples) for depth, loss in self._loss.items()}


def _finite(loss: float) -> float | None:
    """Returns None for a loss that is not finite, because JSON has neither infinity nor NaN."""
    return loss if math.isfinite(loss) else None
