"""Defines the interface of objectives and combines their terms.

A device that holds the exits 1 to d minimises the mean over its exits of

    CE(logits_i + tau log prior, y)  +  lambda / (d - 1) * sum_{j != i} T^2 KL(p_j || p_i)

plus ``mu / 2 ||w - w_0||^2``; each term has its own module. Where the ensemble of exits is the teacher, the middle term
is ``lambda T^2 KL(p || p_i)`` with p of the mean of their logits. The mean over the exits, where DepthFL takes the sum,
keeps the size of a train step equal at all depths. With one exit and no further term this is the plain cross entropy.
CE may be smoothed (Szegedy et al., arXiv 1512.00567, section 7) and weighed by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.core.settings import Balance, ObjectiveSettings
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification, class_logits
from fedlp_edge.learning.training.objectives.adjustment import LogitAdjustment
from fedlp_edge.learning.training.objectives.class_weights import ClassWeights
from fedlp_edge.learning.training.objectives.distillation import Distillation
from fedlp_edge.learning.training.objectives.masking import AbsentClasses
from fedlp_edge.learning.training.objectives.proximal import Proximal
from fedlp_edge.learning.training.objectives.task_loss import TaskObjective, exits_of


class Objective(Protocol):
    """A function that training minimises."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Returns the loss of one batch.

        Args:
            model: Model that returns logits [B, classes]; of a `Submodel`, the logits of all its exits are used.
            x: Batch of samples, [B, ...].
            y: Class numbers, int64 [B].

        Returns:
            Loss, a scalar with a gradient.
        """


@dataclass(frozen=True, slots=True)
class LocalObjective:
    """The mean cross entropy of the exits, with the terms that are not None.

    Attributes:
        adjustment: Adjustment of the logits in the cross entropy.
        distillation: Distillation between the exits; not used with one exit.
        proximal: Proximal term of the weights.
        mask: Mask that takes classes without samples on the device out of the cross entropy.
        class_weights: Weights of the samples in the cross entropy.
        label_smoothing: Share of a label's weight that all classes get in equal parts.
    """

    adjustment: LogitAdjustment | None = None
    distillation: Distillation | None = None
    proximal: Proximal | None = None
    mask: AbsentClasses | None = None
    class_weights: ClassWeights | None = None
    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Returns the loss of one batch, as `Objective` describes it."""
        loss = self.of_exits([class_logits(outputs) for outputs in exits_of(model, x)], y)
        return loss if self.proximal is None else loss + self.proximal()

    def of_exits(self, logits: Sequence[Tensor], y: Tensor) -> Tensor:
        """Returns the terms that depend on the samples.

        Args:
            logits: Logits [B, classes] of every exit, shallowest first.
            y: Class numbers, int64 [B].

        Returns:
            Loss without the proximal term, a scalar with a gradient.
        """
        if len(logits) == 1:
            return self._cross_entropy(self._seen(logits[0]), y)
        exits = torch.stack(tuple(logits))
        # All exits have the same labels, so the mean of their losses is one cross entropy over all logits.
        loss = self._cross_entropy(self._seen(exits).flatten(0, 1), y.repeat(len(exits)))
        return loss if self.distillation is None else loss + self.distillation(exits)

    def _cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.class_weights is None:
            return functional.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        losses = functional.cross_entropy(logits, y, label_smoothing=self.label_smoothing, reduction="none")
        return self.class_weights(losses, y)

    def _seen(self, logits: Tensor) -> Tensor:
        """Returns the logits in the cross entropy: adjusted, then masked."""
        adjusted = logits if self.adjustment is None else self.adjustment(logits)
        return adjusted if self.mask is None else self.mask(adjusted)


def make_objective(
    settings: ObjectiveSettings,
    labels: Tensor,
    parameters: Sequence[nn.Parameter],
    *,
    label_smoothing: float = 0.0,
    balance: Balance = "none",
    task: LearningTask | None = None,
    anchor: Sequence[Tensor] | None = None,
) -> Objective:
    """Returns the objective of one device in one round.

    Args:
        settings: Factors of the terms; a factor of 0 leaves a term out.
        labels: Class numbers of all samples of the device, int64 [N]; they stay in this process.
        parameters: Trained parameters, with their values at the start of the round.
        label_smoothing: Share of a label's weight that all classes get in equal parts.
        balance: With ``weights``, samples are weighed by the inverse frequency of their class.
        task: What the outputs mean; None for classification.
        anchor: Values that the proximal term pulls the parameters towards, one for each; None for those that they have.
    """
    proximal = Proximal(settings.proximal, parameters, anchor) if settings.proximal and parameters else None
    if not (task is None or isinstance(task, Classification)):
        return TaskObjective(task, proximal)
    return LocalObjective(
        adjustment=LogitAdjustment(settings.logit_adjustment, labels) if settings.logit_adjustment else None,
        distillation=(
            Distillation(settings.distillation, settings.distillation_temperature, settings.distillation_teacher)
            if settings.distillation
            else None
        ),
        proximal=proximal,
        mask=AbsentClasses(labels) if settings.mask_absent else None,
        class_weights=ClassWeights(labels) if balance == "weights" else None,
        label_smoothing=label_smoothing,
    )
