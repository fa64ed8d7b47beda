"""Masked cross entropy: a device says nothing about classes that it has no samples of.

HeteroFL (Diao et al., arXiv 2010.01264, section 3.3) sets the logits of these classes to zero before the cross
entropy, so that no gradient reaches what the classifier knows of them.
"""

from __future__ import annotations

from torch import Tensor


class AbsentClasses:
    """Sets the logits of classes that a device lacks to zero.

    Args:
        labels: of all samples of the device, [N]; like the class frequencies they stay with it.
    """

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels
        self._absent: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The masked logits, [..., classes] as given."""
        if self._absent is None:  # the number of classes is the model's
            self._absent = self._labels.bincount(minlength=logits.shape[-1]) == 0
        return logits.masked_fill(self._absent, 0.0)
