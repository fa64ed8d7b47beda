"""What a device adds to what tensors take: a few numbers that it measures about itself.

The step table (``stepcost.py``) says what a step needs on any machine. The numbers here say what this machine makes of
it: the C library and PyTorch take something by themselves, blocks that are free stay with the process, and every
operation costs time whatever it computes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Factor = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Bytes = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Of one device, for one number of threads.

    Attributes:
        base: bytes that the first steps take, however small the model.
        exact: bytes taken for each byte of live tensors where every large block is mapped by itself.
        roomy: the same where the C library keeps and fragments what is free; a bound rather than a mean.
        second_per_mac: of convolutions and products.
        second_per_grouped_mac: of grouped and depthwise convolutions.
        second_per_byte: that operations read and write.
        second_per_operation: of each, on top.
        slowdown: of a step, where every large block is mapped by itself.
    """

    base: Bytes = 0.3e6
    exact: Factor = 1.05
    roomy: Factor = 2.2
    second_per_mac: Factor = 0.0
    second_per_grouped_mac: Factor = 0.0
    second_per_byte: Factor = 0.0
    second_per_operation: Factor = 0.0
    slowdown: Factor = 2.5

    @property
    def timed(self) -> bool:
        """Whether it can tell how long a step takes."""
        return self.second_per_mac > 0
