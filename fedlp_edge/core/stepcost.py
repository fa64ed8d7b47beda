"""What one training step costs, as a table that travels with the blueprint: the planner needs no torch to read it.

Memory in a step rises and falls. Which moment is the highest depends on the size of the batch: early in a network
activations rule, which grow with the batch; late in it gradients of large weights, which do not. So the table keeps
every moment that is the highest one for some size of batch, as a straight line over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


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


class StepCost(msgspec.Struct, frozen=True):
    """One step of one depth: forward, backward, and the optimiser's update.

    Attributes:
        moments: the highest ones, see above.
        checkpointed: the same when activations are computed again in the backward pass.
        largest_parameter: bytes of the largest single parameter, of which the optimiser works on a copy.
        macs: multiply-accumulates of one sample, forward and backward, attention's products included.
        grouped_macs: those of grouped and depthwise convolutions, which are slower and not part of ``macs``.
        moved_bytes: read and written by all operations, for one sample.
        operations: how many there are, whatever the batch.
        state_bytes: of the model's values, buffers included.
        recomputed_macs: on top of ``macs`` and ``grouped_macs`` when activations are computed again.
    """

    moments: tuple[Moment, ...]
    checkpointed: tuple[Moment, ...]
    largest_parameter: int
    macs: int
    grouped_macs: int
    moved_bytes: int
    operations: int
    state_bytes: int
    recomputed_macs: int = 0


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
