"""This module defines what devices tell of a model's activations, so that it can be stored in 8-bit integers.

A coordinator without data has no samples from which the range of each activation could be taken. So devices tell the
least and the greatest value of each tensor on samples of their own, as onnxruntime takes them by default and
Krishnamoorthi (2018, arXiv 1806.08342, section 3.1.2) describes; no sample travels. Least and greatest values merge
over devices without loss, where percentiles would need histograms of ten times the size.

What comes is untrusted, and one value that is far too large would cost all others their resolution. So of each tensor
the most extreme values on either side are left out, at least one, as in the coordinate-wise trimmed mean of Yin et al.
(2018, arXiv 1803.01498): no range reaches further than what a device that is not among those has told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

MAX_TENSORS = 1024
"""Most tensors of a model of which a device tells; 70 bytes each."""

MIN_DEVICES = 3
"""Devices without which nothing is made of what they tell: of fewer, one that lies cannot be told from the others."""

LARGEST = 1e30
"""Largest magnitude of a value."""

_LEFT_OUT = 10  # one device in so many, on either side

_Value = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class TensorRange(msgspec.Struct, frozen=True, array_like=True):
    """The range of one tensor of a model.

    Tensors have other names in other files of the same model, so a tensor is recognised by its values on inputs that
    everybody can make.

    Attributes:
        size: Number of values of the tensor for one sample.
        total: Sum of its values on the inputs that everybody can make.
        magnitude: Sum of the absolute values of these.
        low: Least value on the device's samples.
        high: Greatest value on the device's samples.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    total: _Value
    magnitude: _Value
    low: _Value
    high: _Value

    def __post_init__(self) -> None:
        if self.low > self.high or abs(self.total) > self.magnitude * 1.01:
            raise ValueError("the range of a tensor contradicts itself")


TensorRanges = Annotated[tuple[TensorRange, ...], msgspec.Meta(max_length=MAX_TENSORS)]
"""What one device tells of a model."""


def merged_range(told: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Returns the range of a tensor for the whole fleet; None if too few devices have told theirs.

    Args:
        told: Least and greatest value, one pair for each device.
    """
    if len(told) < MIN_DEVICES:
        return None
    left_out = max(1, len(told) // _LEFT_OUT)
    return sorted(low for low, _ in told)[left_out], sorted((high for _, high in told), reverse=True)[left_out]
