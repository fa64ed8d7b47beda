"""Defines the calibration of a device: a few numbers that turn a step table into memory and time on that device.

The step table (``step_cost.py``) is valid for every machine. A calibration adds the memory that the C library and
PyTorch take, the freed blocks that stay with the process, and the speed of each kind of operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from fedlp_edge.core.step_cost import Kind, Work

Factor = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Bytes = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class OperationCost(msgspec.Struct, frozen=True, array_like=True):
    """The seconds that one kind of operation takes per unit of ``Work``.

    Attributes:
        mac: Seconds per multiply-accumulate.
        moved: Seconds per byte read or written for a sample.
        held: Seconds per byte of weights and their gradients read or written.
        operation: Seconds per operation, in addition.
    """

    mac: Factor
    moved: Factor
    held: Factor
    operation: Factor

    def sample(self, work: Work) -> float:
        """Returns the seconds per sample."""
        return work.macs * self.mac + work.moved * self.moved

    def step(self, work: Work) -> float:
        """Returns the seconds per train step that do not depend on the batch size."""
        return work.held * self.held + work.operations * self.operation


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration of one device for one number of threads.

    Attributes:
        base: Bytes that the first train steps take, however small the model.
        exact: Bytes taken per byte of live tensors with the exact allocator.
        cached: Bytes taken per byte of live tensors with the cached allocator; an upper bound rather than a mean.
        operation_bytes: Bytes for each operation of a step: tensors too small to be mapped one by one leave gaps in the
            heap. Measured with the C library's allocator.
        copies: Bytes for each byte of the largest parameter, which is copied when changes are written. Measured.
        paces: Cost by kind of operation; empty if it was not measured.
        step: Further seconds per train step, for loss, update and Python code.
        slowdown: Ratio of the time of a train step with the exact allocator to that with the cached one.
        correction: Ratio of the measured time of rounds to the predicted one.
    """

    base: Bytes = 0.3e6
    exact: Factor = 1.05
    cached: Factor = 2.2
    operation_bytes: Bytes = 22_000.0
    copies: Factor = 1.25
    paces: Mapping[Kind, OperationCost] = {}
    step: Factor = 0.0
    slowdown: Factor = 2.5
    correction: Factor = 1.0

    @property
    def timed(self) -> bool:
        """Whether the calibration has the cost of operations, so that it can predict times."""
        return bool(self.paces)
