"""Masks the cross entropy, so that a device does not train classes that it has no samples of.

HeteroFL (Diao et al., arXiv 2010.01264, section 3.3) sets the logits of these classes to zero before the cross
entropy, so that the weights of the classifier for them get no gradient.
"""

from __future__ import annotations

from torch import Tensor


class AbsentClasses:
    """Sets the logits of classes without samples on the device to zero.

    Args:
        labels: Class numbers of all samples of the device, int64 [N]; they do not leave the device.
    """

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels
        self._absent: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Returns the masked logits; input and output are [..., classes]."""
        if self._absent is None:  # The logits tell the number of classes.
            self._absent = self._labels.bincount(minlength=logits.shape[-1]) == 0
        return logits.masked_fill(self._absent, 0.0)
