"""Distils knowledge between the exits of a device: each learns from the other exits, or from the mean of all.

DepthFL (Kim et al., "DepthFL: Depthwise Federated Learning for Heterogeneous Clients", ICLR 2023, equation 2) has
every device of depth d minimise

    sum_i CE_i  +  1 / (d - 1) * sum_i sum_{j != i} KL(p_j || p_i)

with the teacher ``p_j`` as a constant. Here both sums over i are means, so factor 1 is DepthFL's objective divided by
d. With the ensemble as the teacher it is ``KL(p || p_i)`` instead, p the softmax of the mean of all logits, again as a
constant (Lee and Lee, "Students are the Best Teacher: Exit-Ensemble Distillation with Multi-Exits", arXiv 2104.00299).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.settings import DistillationTeacher


class Distillation:
    """The mean over exits i of what exit i differs by from its teachers, p the softmax of logits / T.

    That is ``factor / (d - 1) * sum_{j != i} T^2 KL(p_j || p_i)`` where exits learn from each other, and
    ``factor * T^2 KL(p || p_i)`` where they learn from their ensemble.

    Args:
        factor: Lambda; DepthFL has 1.
        temperature: T; ``T^2`` preserves the size of the gradient (Hinton et al., arXiv 1503.02531, section 2).
        teacher: ``exits`` if every other exit teaches, ``ensemble`` if the mean of the logits of all exits does.
    """

    def __init__(self, factor: float, temperature: float = 1.0, teacher: DistillationTeacher = "exits") -> None:
        self._factor = factor
        self._temperature = temperature
        self._teacher = teacher

    def __call__(self, exits: Tensor) -> Tensor:
        """Returns the distillation loss, a scalar: the mean over the samples.

        Args:
            exits: Logits of two exits or more, [d, B, classes].
        """
        depth, batch, _ = exits.shape
        logits = exits.float() / self._temperature
        students = functional.log_softmax(logits, dim=-1)
        size = self._factor * self._temperature**2
        if self._teacher == "ensemble":
            teacher = functional.log_softmax(logits.detach().mean(dim=0), dim=-1)
            return (teacher.exp() * (teacher - students)).sum() * (size / (depth * batch))
        known = students.detach()
        teachers = known.exp()
        # KL(p_j || p_i) summed over all pairs; for i = j it is 0, and so is its gradient.
        entropy = depth * (teachers * known).sum()
        cross = (teachers.sum(dim=0) * students.sum(dim=0)).sum()
        return (entropy - cross) * (size / (depth * (depth - 1) * batch))
