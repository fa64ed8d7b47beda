"""Distils knowledge between the exits of a device: every exit learns from the answers of the other exits.

DepthFL (Kim et al., "DepthFL: Depthwise Federated Learning for Heterogeneous Clients", ICLR 2023, equation 2) has
every device of depth d minimise

    sum_i CE_i  +  1 / (d - 1) * sum_i sum_{j != i} KL(p_j || p_i)

with the teacher ``p_j`` as a constant. Here both sums over i are means, so factor 1 is DepthFL's objective divided by
d.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


class Distillation:
    """The mean over exits i of ``factor / (d - 1) * sum_{j != i} T^2 KL(p_j || p_i)``, p the softmax of logits / T.

    Args:
        factor: Lambda; DepthFL has 1.
        temperature: T; ``T^2`` preserves the size of the gradient (Hinton et al., arXiv 1503.02531, section 2).
    """

    def __init__(self, factor: float, temperature: float = 1.0) -> None:
        self._factor = factor
        self._temperature = temperature

    def __call__(self, exits: Tensor) -> Tensor:
        """Returns the distillation loss, a scalar: the mean over the samples.

        Args:
            exits: Logits of two exits or more, [d, B, classes].
        """
        depth, batch, _ = exits.shape
        students = functional.log_softmax(exits.float() / self._temperature, dim=-1)
        known = students.detach()
        teachers = known.exp()
        # KL(p_j || p_i) summed over all pairs; for i = j it is 0, and so is its gradient.
        entropy = depth * (teachers * known).sum()
        cross = (teachers.sum(dim=0) * students.sum(dim=0)).sum()
        return (entropy - cross) * (self._factor * self._temperature**2 / (depth * (depth - 1) * batch))
