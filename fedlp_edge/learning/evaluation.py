"""How good the global model is at every depth, on samples that no device trained on."""

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
    """By depth: accuracy from 0 to 1, and mean cross-entropy, of that exit alone and of the ensemble up to it.

    The ensemble of depth d answers with the mean of the logits of the exits up to d, as DepthFL does (Kim et al.,
    ICLR 2023). Cross-entropy is convex in the logits, so its loss is at most the mean of the exits' losses.

    Attributes:
        known_loss: cross-entropy of the exits alone among the classes that the data hold; empty if they hold all.
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
    """Accuracy and loss of several exits in one pass over the data.

    Args:
        model: put into evaluation mode; on the device that ``data`` is on.
        logits_by_depth: gives one [B, classes] tensor per entry of ``depths``, from one forward pass.
        depths: which exits those are, shallowest first.
        data: held-out samples.
        batch_size: samples at a time.
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
    """Sends a few samples through every exit, so that what cannot work is known before anybody has trained.

    Raises:
        ModelError: an exit does not take them, or gives something else than logits.
    """
    training = model.training
    model.eval()
    x, y = data.batch(slice(0, samples))
    try:
        logits = model.exits(x)
    except Exception as error:  # whatever a user's own layers raise is theirs to read
        raise ModelError(f"the model does not take the samples: {type(error).__name__}: {error}") from error
    finally:
        model.train(training)
    for depth, exit_logits in enumerate(logits, start=1):
        if exit_logits.shape != (len(y), model.classes):
            raise ModelError(f"exit {depth} gives {list(exit_logits.shape)} for {len(y)} samples, not logits")


class _Tally:
    """Right answers and losses by depth, added up over batches."""

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
    """JSON knows neither infinity nor NaN."""
    return loss if math.isfinite(loss) else None
