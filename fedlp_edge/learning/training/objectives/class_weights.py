"""Weighs samples by the inverse frequency of their class on the device, so that rare classes are not drowned out."""

from __future__ import annotations

from torch import Tensor


class ClassWeights:
    """The weight ``N / (C n_c)`` of a sample of class c, with C the classes that the device has samples of.

    The mean weight of all samples is 1, so the size of a step stays the same. A batch is divided by its number of
    samples and not by its weights, so that parts of a batch add up to the whole.

    Args:
        labels: Class numbers of all samples of the device, int64 [N]; they do not leave the device.
    """

    def __init__(self, labels: Tensor) -> None:
        counts = labels.bincount().float()
        present = (counts > 0).sum()
        self._weights = (len(labels) / (present * counts)).masked_fill(counts == 0, 0.0)

    def __call__(self, losses: Tensor, y: Tensor) -> Tensor:
        """Returns the mean of weighted losses, a scalar.

        Args:
            losses: Loss of every sample, float32 [B].
            y: Class numbers, int64 [B].
        """
        return (losses * self._weights[y]).mean()
