"""What one training step costs, as a table that travels with the blueprint: the planner needs no torch to read it.

How long a step takes depends on what is computed by which kind of code: a depthwise convolution takes ten times as long
for each multiplication as a dense one. So the table keeps what the operations of each kind do, and a device
measures its pace at each kind (``calibration.py``).

Memory in a step rises and falls. Which moment is the highest depends on the size of the batch: early in a network
activations rule, which grow with the batch; late in it gradients of large weights, which do not. So the table keeps
every moment that is the highest one for some size of batch, as a straight line over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Kind = Literal[
    "convolution", "grouped", "depthwise", "wide-depthwise", "product", "normalization", "pooling", "elementwise"
]
"""Of operations: convolutions by their groups (wide are depthwise ones of more than 3x3), matrix products, batch and
other normalisation, pooling, and all the rest."""


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """Bytes that tensors take at one moment of a step, beside the model's values and the optimiser's state.

    Attributes:
        fixed: independent of the batch: gradients, mostly.
        per_sample: for each sample of the batch.
    """

    fixed: float
    per_sample: float

    def at(self, batch: int) -> float:
        """Bytes with a batch of this size."""
        return self.fixed + self.per_sample * batch


class Work(msgspec.Struct, frozen=True, array_like=True):
    """What the operations of one kind do in a step.

    Attributes:
        macs: multiply-accumulates of one sample, forward and backward.
        moved: bytes read and written for one sample.
        held: bytes read and written whatever the batch: weights and their gradients.
        operations: how many there are, whatever the batch.
    """

    macs: int
    moved: int
    held: int
    operations: int


class StepCost(msgspec.Struct, frozen=True):
    """One step of one depth: forward, backward, and the optimiser's update.

    Attributes:
        moments: the highest ones, see above.
        checkpointed: the same when activations are computed again in the backward pass.
        largest_parameter: bytes of the largest single parameter, of which the optimiser works on a copy.
        work: by kind of operation, attention's products included.
        state_bytes: of the model's values, buffers included.
        recomputed_macs: on top of ``macs`` when activations are computed again.
    """

    moments: tuple[Moment, ...]
    checkpointed: tuple[Moment, ...]
    largest_parameter: int
    work: Mapping[Kind, Work]
    state_bytes: int
    recomputed_macs: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(work.macs for work in self.work.values())

    @property
    def operations(self) -> int:
        """How many there are."""
        return sum(work.operations for work in self.work.values())


def highest(moments: Iterable[Moment], batch: int) -> float:
    """Bytes at the highest moment, for a batch of this size."""
    return max(moment.at(batch) for moment in moments)


def envelope(moments: Sequence[Moment]) -> tuple[Moment, ...]:
    """Those moments that are the highest ones for some size of batch, the flattest first.

    The upper envelope of straight lines over batches of one sample and more: all lines that are sorted out lie
    below another one everywhere.
    """
    lines: list[Moment] = []
    for moment in sorted(set(moments), key=lambda line: (line.per_sample, line.fixed)):
        if lines and lines[-1].per_sample == moment.per_sample:
            lines.pop()
        while lines and lines[-1].at(1) <= moment.at(1):
            lines.pop()
        while len(lines) > 1 and _meet(lines[-2], moment) <= _meet(lines[-2], lines[-1]):
            lines.pop()
        lines.append(moment)
    return tuple(lines)


def _meet(flat: Moment, steep: Moment) -> float:
    """The batch from which on the steeper line is the higher one."""
    return (flat.fixed - steep.fixed) / (steep.per_sample - flat.per_sample)
