"""What a device adds to what tensors take: a few numbers that it measures about itself.

The step table (``stepcost.py``) says what a step needs on any machine. The numbers here say what this machine makes of
it: the C library and PyTorch take something by themselves, blocks that are free stay with the process, and each kind of
operation has its pace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from fedlp_edge.core.step_cost import Kind, Work

Factor = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Bytes = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class OperationCost(msgspec.Struct, frozen=True, array_like=True):
    """Seconds that operations of one kind take: what ``Work`` counts, times these.

    Attributes:
        mac: of a multiply-accumulate.
        moved: of a byte that goes with a sample.
        held: of a byte of weights.
        operation: of each operation, on top.
    """

    mac: Factor
    moved: Factor
    held: Factor
    operation: Factor

    def sample(self, work: Work) -> float:
        """Seconds for each sample."""
        return work.macs * self.mac + work.moved * self.moved

    def step(self, work: Work) -> float:
        """Seconds for each step, whatever the batch."""
        return work.held * self.held + work.operations * self.operation


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Of one device, for one number of threads.

    Attributes:
        base: bytes that the first steps take, however small the model.
        exact: bytes taken for each byte of live tensors where every large block is mapped by itself.
        cached: the same where the C library keeps and fragments what is free; a bound rather than a mean.
        paces: by kind of operation; empty if they were not measured.
        step: seconds of each step on top: loss, update, and all that Python does between them.
        slowdown: of a step, where every large block is mapped by itself.
        correction: of predicted times: what rounds took in proportion.
    """

    base: Bytes = 0.3e6
    exact: Factor = 1.05
    cached: Factor = 2.2
    paces: Mapping[Kind, OperationCost] = {}
    step: Factor = 0.0
    slowdown: Factor = 2.5
    correction: Factor = 1.0

    @property
    def timed(self) -> bool:
        """Whether it can tell how long a step takes."""
        return bool(self.paces)
