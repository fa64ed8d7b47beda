"""How good the global model is at every depth, on samples that no device trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.learning.data import Dataset


@dataclass(frozen=True, slots=True)
class Scores:
    """By depth: accuracy from 0 to 1, and mean cross-entropy."""

    accuracy: dict[int, float]
    loss: dict[int, float]


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
        depths: which exits those are.
        data: held-out samples.
        batch_size: samples at a time.
    """
    model.eval()
    correct = dict.fromkeys(depths, 0)
    total_loss = dict.fromkeys(depths, 0.0)
    for start in range(0, len(data), batch_size):
        x, y = data.batch(slice(start, start + batch_size))
        for depth, logits in zip(depths, logits_by_depth(x), strict=True):
            correct[depth] += int((logits.argmax(dim=1) == y).sum())
            total_loss[depth] += float(functional.cross_entropy(logits, y, reduction="sum"))
    return Scores(
        accuracy={depth: correct[depth] / len(data) for depth in depths},
        loss={depth: _finite(total_loss[depth] / len(data)) for depth in depths},
    )


def _finite(loss: float) -> float:
    """JSON knows no infinity; a model so bad counts as the worst there is."""
    return loss if abs(loss) <= sys.float_info.max else sys.float_info.max
