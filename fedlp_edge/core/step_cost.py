"""Defines the step table: the cost of one train step, as a part of the blueprint that needs no torch.

The time of a train step depends on the kinds of its operations: a depthwise convolution takes ten times as long per
multiplication as a dense one. So the table has the work of each kind of operation, and a device measures its speed for
each kind (``planning/calibration.py``).

Memory rises and falls within a train step. Which moment is the highest depends on the batch size: at some memory_points
activations dominate, which grow with the batch, at others gradients of large weights, which do not. So the table has
every moment that is the highest one for some batch size, as a straight line over the batch size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Kind = Literal[
    "convolution", "grouped", "depthwise", "wide-depthwise", "product", "normalization", "pooling", "elementwise"
]
"""Kinds of operations: convolutions by their groups (``wide-depthwise`` has filters larger than 3x3), matrix products,
batch and other normalisation, pooling, and all other operations."""


class MemoryPoint(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of tensors at one moment of a train step, without the model's values and the optimizer's state.

    Attributes:
        fixed: Bytes that do not depend on the batch size, mainly of gradients.
        per_sample: Bytes for each sample of the batch.
    """

    fixed: float
    per_sample: float

    def at(self, batch: int) -> float:
        """Returns the bytes for a batch of this size."""
        return self.fixed + self.per_sample * batch


class Work(msgspec.Struct, frozen=True, array_like=True):
    """The work of all operations of one kind in a train step.

    Attributes:
        macs: Multiply-accumulates per sample, forward and backward.
        moved: Bytes read and written per sample.
        held: Bytes read and written for any batch size: weights and their gradients.
        operations: Number of operations for any batch size.
    """

    macs: int
    moved: int
    held: int
    operations: int


class StepCost(msgspec.Struct, frozen=True):
    """The cost of one train step at one depth: forward pass, backward pass, and update.

    Attributes:
        memory_points: Moments that are the highest for some batch size.
        checkpointed: Moments that are the highest for some batch size with activation checkpointing.
        largest_parameter: Bytes of the largest parameter, which is copied once.
        work: Work by kind of operation, the matrix products of attention included.
        state_bytes: Bytes of the model's values, buffers included.
        recomputed_macs: Multiply-accumulates per sample that activation checkpointing adds.
    """

    memory_points: tuple[MemoryPoint, ...]
    checkpointed: tuple[MemoryPoint, ...]
    largest_parameter: int
    work: Mapping[Kind, Work]
    state_bytes: int
    recomputed_macs: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample, over all kinds of operations."""
        return sum(work.macs for work in self.work.values())

    @property
    def operations(self) -> int:
        """Number of operations of all kinds."""
        return sum(work.operations for work in self.work.values())


def peak_bytes(memory_points: Iterable[MemoryPoint], batch: int) -> float:
    """Returns the bytes at the highest moment, for a batch of this size."""
    return max(moment.at(batch) for moment in memory_points)


def upper_envelope(memory_points: Sequence[MemoryPoint]) -> tuple[MemoryPoint, ...]:
    """Returns the points that are the highest for some batch size, those with the smallest slope first.

    This is the upper envelope of straight lines over batch sizes of 1 and more: at every batch size, another line is
    at least as high as one that is left out.
    """
    lines: list[MemoryPoint] = []
    for moment in sorted(set(memory_points), key=lambda line: (line.per_sample, line.fixed)):
        if lines and lines[-1].per_sample == moment.per_sample:
            lines.pop()
        while lines and lines[-1].at(1) <= moment.at(1):
            lines.pop()
        while len(lines) > 1 and _meet(lines[-2], moment) <= _meet(lines[-2], lines[-1]):
            lines.pop()
        lines.append(moment)
    return tuple(lines)


def _meet(flat: MemoryPoint, steep: MemoryPoint) -> float:
    """Returns the batch size from which on the steeper line is the higher one."""
    return (flat.fixed - steep.fixed) / (steep.per_sample - flat.per_sample)
