"""This module measures accuracy and loss of the global model at every depth, on samples that no device trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.core.exit_counts import ExitCounts, finite_mean
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
    counter = ExitCounter(depths, int(data.y.max()) + 1, data.y.device)
    known = dict.fromkeys(depths, 0.0)
    present = torch.unique(data.y)  # sorted
    classes_missing = False
    for start in range(0, len(data), batch_size):
        x, y = data.batch(slice(start, start + batch_size))
        outputs = logits_by_depth(x)
        counter.add(outputs, y)
        classes_missing = classes_missing or any(len(present) < logits.shape[1] for logits in outputs)
        if classes_missing:
            for depth, logits in zip(depths, outputs, strict=True):
                known[depth] += _summed_loss(logits[:, present], torch.searchsorted(present, y))
    counts = counter.counts()
    return Scores(
        accuracy=counts.accuracy(),
        loss=counts.mean_loss(),
        ensemble_accuracy=counts.ensemble_accuracy(),
        ensemble_loss=counts.mean_ensemble_loss(),
        known_loss=finite_mean(known, len(data)) if classes_missing else {},
    )


def logits_of(model: LayeredModel, x: Tensor, depths: Sequence[int], full_depth: int) -> list[Tensor]:
    """Computes the logits of some exits of a model in one forward pass.

    Args:
        model: Layered model of depth ``full_depth``.
        x: Samples, float32 [B, ...].
        depths: Depths of the exits.
        full_depth: Depth of the model; if it is the only entry of ``depths``, no other head is computed.

    Returns:
        Logits [B, classes] of each exit, in the order of ``depths``.
    """
    if tuple(depths) == (full_depth,):
        return [model(x)]
    exits = model.exits(x)
    return [exits[depth - 1] for depth in depths]


class ExitCounter:
    """Counts correct predictions and sums cross-entropy of several exits over batches.

    Args:
        depths: Depths of the exits, shallowest first.
        classes: Number of classes, greater than every label.
        device: Torch device of the labels.
    """

    def __init__(self, depths: Sequence[int], classes: int, device: torch.device) -> None:
        self._classes = classes
        # The counts stay on this device, because copying them to the CPU after every batch would stall a GPU.
        self._samples = torch.zeros(classes, dtype=torch.int64, device=device)
        self._correct = {depth: torch.zeros_like(self._samples) for depth in depths}
        self._loss = dict.fromkeys(depths, 0.0)
        self._ensemble_correct = dict.fromkeys(depths, 0)
        self._ensemble_loss = dict.fromkeys(depths, 0.0)

    @torch.no_grad()
    def add(self, outputs: Sequence[Tensor], y: Tensor) -> None:
        """Adds one batch to the counts.

        Args:
            outputs: Logits [B, classes] of each exit.
            y: Class numbers, int64 [B].
        """
        self._samples += y.bincount(minlength=self._classes)
        total: Tensor | None = None
        for number, (depth, logits) in enumerate(zip(self._correct, outputs, strict=True), start=1):
            self._correct[depth] += y[logits.argmax(dim=1) == y].bincount(minlength=self._classes)
            self._loss[depth] += _summed_loss(logits, y)
            total = logits if total is None else total + logits
            # The mean of the logits has its maximum at the same class as their sum.
            self._ensemble_correct[depth] += int((total.argmax(dim=1) == y).sum())
            self._ensemble_loss[depth] += _summed_loss(total / number, y)

    def counts(self) -> ExitCounts:
        """Returns the counts of all batches so far."""
        return ExitCounts(
            samples=tuple(self._samples.tolist()),
            correct={depth: tuple(by_class.tolist()) for depth, by_class in self._correct.items()},
            loss=dict(self._loss),
            ensemble_correct=dict(self._ensemble_correct),
            ensemble_loss=dict(self._ensemble_loss),
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


def _summed_loss(logits: Tensor, y: Tensor) -> float:
    return float(functional.cross_entropy(logits, y, reduction="sum"))
