"""This module judges the global model at every depth, on samples that no device trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.exit_sums import ExitSums, mean_losses
from fedlp_edge.core.metrics.task_metrics import accuracies
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.layered import LayeredModel, Submodel, answers_of
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification, class_logits

_SUMMED_TOGETHER = 1024
"""Samples whose outputs are summed at once."""

_LARGE = 4096
"""Numbers of an input from which each batch is summed by itself, so that few inputs wait in memory."""

JUDGED_AT_ONCE = 128
"""Most held-out samples of a device in a forward pass."""

_HUGE = 1e300
"""What stands for a sum that is no finite number; its mean counts as none."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Holds what a model's exits are worth by depth, for each exit alone and for the ensemble of exits up to it.

    The ensemble of depth d answers with the mean of the outputs of the exits up to d, as DepthFL does (Kim et al.,
    ICLR 2023). Losses are convex in the outputs, so the ensemble's loss is at most the mean of the exits' losses.

    Attributes:
        metrics: Metrics of each exit alone, by depth and name.
        ensemble_metrics: Metrics of each ensemble, by depth and name.
        loss: Mean loss of each exit alone, by depth; None if it is not finite.
        ensemble_loss: Mean loss of each ensemble, by depth; None if it is not finite.
        known_loss: Mean cross-entropy of each exit alone among the classes that occur in the data, by depth; empty if
            every class occurs, and for tasks without classes.
        sums: What the metrics are computed from.
    """

    metrics: dict[int, dict[str, float]]
    ensemble_metrics: dict[int, dict[str, float]]
    loss: dict[int, float | None]
    ensemble_loss: dict[int, float | None]
    known_loss: dict[int, float | None]
    sums: ExitSums

    @property
    def accuracy(self) -> dict[int, float]:
        """Accuracy of each exit alone, 0 to 1, by depth; empty for a task without accuracy."""
        return accuracies(self.metrics)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    outputs_by_depth: Callable[[Tensor], Sequence[Tensor]],
    depths: Sequence[int],
    data: Dataset,
    batch_size: int = 256,
    task: LearningTask | None = None,
    exits: Sequence[int] = (),
) -> Scores:
    """Judges several exits in one pass over the data.

    Args:
        model: Model on the same torch device as ``data``; it is left in evaluation mode.
        outputs_by_depth: Function from samples [B, ...] to one tensor [B, outputs] per entry of ``exits``, computed in
            one forward pass.
        depths: Depths of the exits that are judged, shallowest first.
        data: Held-out samples.
        batch_size: Samples per forward pass.
        task: What the outputs mean; None for one logit per class that occurs in the data or has a name.
        exits: Depths of all exits that ensembles are made of, ``depths`` among them; empty for these alone.
    """
    model.eval()
    task = task or Classification(max(len(data.classes), int(data.y.max()) + 1))
    exits = tuple(exits or depths)
    summed = ExitSummation(depths, task, exits)
    known = dict.fromkeys(depths, 0.0)
    present = torch.unique(data.y) if isinstance(task, Classification) else data.y  # sorted
    classes_missing = False
    for start in range(0, len(data), batch_size):
        x, y = data.batch(slice(start, start + batch_size))
        outputs = outputs_by_depth(x)
        summed.add(outputs, y, x)
        if not isinstance(task, Classification):
            continue
        judged = {depth: class_logits(of_exit) for depth, of_exit in zip(exits, outputs, strict=True) if depth in known}
        classes_missing = classes_missing or any(len(present) < logits.shape[1] for logits in judged.values())
        if classes_missing:
            for depth, logits in judged.items():
                known[depth] += float(
                    functional.cross_entropy(logits[:, present], torch.searchsorted(present, y), reduction="sum")
                )
    sums = summed.sums()
    return Scores(
        metrics={depth: task.metrics(of_exit) for depth, of_exit in sums.exits.items()},
        ensemble_metrics={depth: task.metrics(of_ensemble) for depth, of_ensemble in sums.ensembles.items()},
        loss=mean_losses(sums.exits),
        ensemble_loss=mean_losses(sums.ensembles),
        known_loss={depth: _finite(loss / len(data)) for depth, loss in known.items()} if classes_missing else {},
        sums=sums,
    )


@torch.no_grad()
def held_out_scores(
    model: Submodel,
    depths: Sequence[int],
    data: Dataset,
    task: LearningTask,
    device: torch.device,
    batch_size: int,
    answer: AnswerMode,
) -> dict[int, HeldOutScores]:
    """Judges what models of the depths of a device's exits answer to samples that the device does not train on.

    Args:
        model: Submodel on ``device``; it is left in evaluation mode.
        depths: Depths of the exits that it holds, shallowest first.
        data: Held-out samples, on any torch device.
        task: What the outputs mean.
        device: Torch device that computes.
        batch_size: Samples per forward pass.
        answer: What the models answer with, which must be what the fleet exports.

    Returns:
        Scores by depth of the exit; none if no sample is what the loss is the mean of, such as a normal one.
    """
    model.eval()
    summed = ExitSummation(depths, task)
    for start in range(0, len(data), batch_size):
        x, y = data.batch(slice(start, start + batch_size))
        x, y = x.to(device), y.to(device)
        summed.add(answers_of(model.exits(x), answer), y, x)
    own = task.name not in BUILT_IN_TASKS
    return {
        depth: HeldOutScores(of_exit, task.metrics(of_exit) if own else {})
        for depth, of_exit in summed.sums().exits.items()
        if of_exit["samples"][0]
    }


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


class ExitSummation:
    """Adds up the sums of several exits over batches.

    Args:
        depths: Depths of the exits that are judged, shallowest first.
        task: What the outputs mean.
        exits: Depths of all exits that ensembles are made of, ``depths`` among them; empty for these alone.
    """

    def __init__(self, depths: Sequence[int], task: LearningTask, exits: Sequence[int] = ()) -> None:
        self._task = task
        self._heads = tuple(exits or depths)
        self._exits: dict[int, dict[str, Tensor]] = {depth: {} for depth in depths}
        self._ensembles: dict[int, dict[str, Tensor]] = {depth: {} for depth in depths}
        self._waiting: list[tuple[Sequence[Tensor], Tensor, Tensor]] = []

    def add(self, outputs: Sequence[Tensor], y: Tensor, x: Tensor) -> None:
        """Adds one batch to the sums.

        Args:
            outputs: Outputs [B, outputs] of each exit of an ensemble.
            y: Targets of the batch.
            x: Inputs of the batch as the model gets them, [B, ...].
        """
        self._waiting.append((outputs, y, x))
        if sum(len(batch) for _, batch, _ in self._waiting) >= _SUMMED_TOGETHER or x[0].numel() > _LARGE:
            self._add_waiting()

    def sums(self) -> ExitSums:
        """Returns the sums of all batches so far."""
        if self._waiting:
            self._add_waiting()
        return ExitSums(
            exits={depth: _as_numbers(sums) for depth, sums in self._exits.items()},
            ensembles={depth: _as_numbers(sums) for depth, sums in self._ensembles.items()},
        )

    def _add_waiting(self) -> None:
        """Adds several batches at once: the sums are many small operations, whose number counts."""
        x, y = torch.cat([x for _, _, x in self._waiting]), torch.cat([y for _, y, _ in self._waiting])
        outputs = [torch.cat(exits) for exits in zip(*(exits for exits, _, _ in self._waiting), strict=True)]
        self._waiting = []
        for depth, of_exit, mean in zip(self._heads, outputs, answers_of(outputs, "mean"), strict=True):
            if depth not in self._exits:
                continue
            alone = self._task.sums(of_exit, y, x)
            _accumulate(self._exits[depth], alone)
            _accumulate(self._ensembles[depth], alone if depth == self._heads[0] else self._task.sums(mean, y, x))


@torch.no_grad()
def try_samples(model: LayeredModel, data: Dataset, task: LearningTask | None = None, samples: int = 2) -> None:
    """Runs a few samples through every exit, so that a model that does not fit the data is refused before training.

    Args:
        model: Layered model; its training mode is restored afterwards.
        data: Samples on the model's torch device.
        task: Task whose loss, sums and predictions are tried as well; None to try the model alone.
        samples: Number of samples to run.

    Raises:
        ModelError: The model raises an error on the samples, an exit returns another shape than [B, outputs], or the
            task does not take what the model returns.
    """
    training = model.training
    model.eval()
    x, y = data.batch(slice(0, samples))
    try:
        outputs = model.exits(x)
    except Exception as error:  # users' layers may raise any type, and its text helps them
        raise ModelError(f"the model does not take the samples: {type(error).__name__}: {error}") from error
    finally:
        model.train(training)
    for depth, of_exit in enumerate(outputs, start=1):
        if of_exit.shape != (len(y), model.classes):
            raise ModelError(f"exit {depth} gives {list(of_exit.shape)} for {len(y)} samples, not logits")
        if task is not None:
            task.loss(of_exit, y, x)
            task.metrics(_as_numbers({name: sums.double() for name, sums in task.sums(of_exit, y, x).items()}))
            task.predict(of_exit, x)


def _accumulate(total: dict[str, Tensor], sums: dict[str, Tensor]) -> None:
    """Adds the sums of a batch in double precision, where they are, so that a GPU need not be waited for."""
    for name, values in sums.items():
        added = values.double()
        total[name] = total[name] + added if name in total else added


def _as_numbers(sums: dict[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Returns sums as numbers that JSON knows."""
    return {
        name: tuple(values.nan_to_num(nan=_HUGE, posinf=_HUGE, neginf=-_HUGE).tolist()) for name, values in sums.items()
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
