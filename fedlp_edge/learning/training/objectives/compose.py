"""The interface of objectives, and how the parts of one are put together.

A device that holds the exits 1 to d minimises the mean over its exits of

    CE(logits_i + tau log prior, y)  +  lambda / (d - 1) * sum_{j != i} T^2 KL(p_j || p_i)

plus ``mu / 2 ||w - w_0||^2``; each part in its own file. The mean, where DepthFL takes the sum, keeps the size of a
step the same at all depths. One exit and no further part is plain cross entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.core.settings import ObjectiveSettings
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.training.objectives.adjustment import LogitAdjustment
from fedlp_edge.learning.training.objectives.distillation import Distillation
from fedlp_edge.learning.training.objectives.masking import AbsentClasses
from fedlp_edge.learning.training.objectives.proximal import Proximal


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            model: gives logits [B, classes]; a `Submodel` gives those of all exits that it holds.
            x: samples [B, ...].
            y: class numbers [B].

        Returns:
            A scalar with a gradient.
        """


@dataclass(frozen=True, slots=True)
class LocalObjective:
    """The mean cross entropy of the exits, with the parts that are not None.

    Attributes:
        adjustment: changes the logits that the cross entropy sees.
        distillation: of the exits by each other; nothing where there is one exit.
        proximal: of the weights.
        mask: takes classes that the device lacks out of the cross entropy.
    """

    adjustment: LogitAdjustment | None = None
    distillation: Distillation | None = None
    proximal: Proximal | None = None
    mask: AbsentClasses | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """See `Objective`."""
        logits = model.exits(x) if isinstance(model, Submodel) else (model(x),)
        loss = self.of_exits(logits, y)
        return loss if self.proximal is None else loss + self.proximal()

    def of_exits(self, logits: Sequence[Tensor], y: Tensor) -> Tensor:
        """The part that depends on the samples, from the logits [B, classes] of every exit."""
        if len(logits) == 1:
            return functional.cross_entropy(self._seen(logits[0]), y)
        exits = torch.stack(tuple(logits))
        # All exits see the same labels, so their mean is one cross entropy over all of their answers.
        loss = functional.cross_entropy(self._seen(exits).flatten(0, 1), y.repeat(len(exits)))
        return loss if self.distillation is None else loss + self.distillation(exits)

    def _seen(self, logits: Tensor) -> Tensor:
        """What the cross entropy is told."""
        adjusted = logits if self.adjustment is None else self.adjustment(logits)
        return adjusted if self.mask is None else self.mask(adjusted)


def make_objective(settings: ObjectiveSettings, labels: Tensor, parameters: Sequence[nn.Parameter]) -> Objective:
    """The objective of one device in one round.

    Args:
        settings: which parts, and their factors.
        labels: of all samples of the device, [N]; they stay in this process.
        parameters: what is trained, with the values at the start of the round.
    """
    return LocalObjective(
        adjustment=LogitAdjustment(settings.logit_adjustment, labels) if settings.logit_adjustment else None,
        distillation=(
            Distillation(settings.distillation, settings.distillation_temperature) if settings.distillation else None
        ),
        proximal=Proximal(settings.proximal, parameters) if settings.proximal and parameters else None,
        mask=AbsentClasses(labels) if settings.mask_absent else None,
    )
