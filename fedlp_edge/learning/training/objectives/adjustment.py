"""Logit adjustment: a device learns what tells its classes apart, not how many it has of each.

A device that holds mostly one class pushes every answer towards it, and the mean of such devices forgets the rest.
Cross entropy on ``logits + tau log prior`` (Menon et al., arXiv 2007.07314, equation 10) takes the frequencies out:
what the prior explains need not be learned. FedLC (Zhang et al., arXiv 2209.00189, equation 8) does it per device
in federated learning, with a margin of ``n_c^(-1/4)`` in the place of ``log prior``.
"""

from __future__ import annotations

from torch import Tensor

SMOOTHING = 1.0
"""Samples added to every class (Laplace): a class that a device has never seen keeps a finite logarithm."""


class LogitAdjustment:
    """Adds tau times the logarithm of the device's own class frequencies to logits.

    The frequencies are private: they are computed where the samples are and are part of no message. They do shape
    the update, as the samples themselves do.

    Args:
        tau: factor; 1 is the adjustment for balanced error.
        labels: of all samples of the device, [N].
    """

    def __init__(self, tau: float, labels: Tensor) -> None:
        self._tau = tau
        self._labels = labels
        self._offset: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The adjusted logits, [..., classes] as given."""
        if self._offset is None:  # the number of classes is the model's
            self._offset = self._tau * log_prior(self._labels, logits.shape[-1])
        return logits + self._offset


def log_prior(labels: Tensor, classes: int) -> Tensor:
    """Logarithms of the smoothed class frequencies ``(n_c + 1) / (N + classes)``, float32 [classes]."""
    counts = labels.bincount(minlength=classes).float() + SMOOTHING
    return (counts / counts.sum()).log()
