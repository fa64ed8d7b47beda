"""Adjusts logits by class frequencies, so that a device learns what distinguishes its classes and not their shares.

A device that has mostly samples of one class pushes every answer towards it, and the average of such devices forgets
the other classes. Cross entropy on ``logits + tau log prior`` (Menon et al., arXiv 2007.07314, equation 10) removes the
frequencies: what the prior explains need not be learned. FedLC (Zhang et al., arXiv 2209.00189, equation 8) does this
per device in federated learning, with a margin of ``n_c^(-1/4)`` instead of ``log prior``.
"""

from __future__ import annotations

from torch import Tensor

SMOOTHING = 1.0
"""Samples added to every class (Laplace smoothing), so that a class without samples has a finite logarithm."""


class LogitAdjustment:
    """Adds tau times the logarithm of the device's class frequencies to logits.

    The frequencies are private: they are computed on the device and are part of no message. They influence the update,
    as the samples do.

    Args:
        tau: Factor; 1 minimises the balanced error.
        labels: Class numbers of all samples of the device, int64 [N].
    """

    def __init__(self, tau: float, labels: Tensor) -> None:
        self._tau = tau
        self._labels = labels
        self._offset: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Returns the adjusted logits; input and output are [..., classes]."""
        if self._offset is None:  # The logits tell the number of classes.
            self._offset = self._tau * log_prior(self._labels, logits.shape[-1])
        return logits + self._offset


def log_prior(labels: Tensor, classes: int) -> Tensor:
    """Returns the logarithms of the smoothed class frequencies ``(n_c + 1) / (N + classes)``.

    Args:
        labels: Class numbers, int64 [N].
        classes: Number of classes.

    Returns:
        Logarithms, float32 [classes].
    """
    counts = labels.bincount(minlength=classes).float() + SMOOTHING
    return (counts / counts.sum()).log()
