"""Values of a tensor as integers travel: widened to float32 block by block, where they are used.

An update of integers takes a quarter of the bytes of float32. Widened as a whole, each would be written to memory once
and read from there by everything that follows; a block of it stays in the processor's cache until it has been added.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

BLOCK = 1 << 16
"""Elements that are widened, measured or added at once: the temporary arrays of one block fit into the cache."""


class ScaledIntegers:
    """Integers that stand for float32 values: each one times the scale.

    Args:
        levels: Integers in the tensor's shape, which must not change while this object is in use.
        scale: Factor of all of them.
    """

    def __init__(self, levels: npt.NDArray[np.int8], scale: np.float32) -> None:
        self._levels = levels
        self._scale = scale

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self._levels.shape

    @property
    def bound(self) -> float:
        """A number that no value exceeds in magnitude."""
        return 128 * abs(float(self._scale))

    def blocks(self) -> Iterator[Array]:
        """Yields the values, see ``float_blocks``."""
        for wide in self._wide_blocks():
            yield np.multiply(wide, self._scale, out=wide)

    def squared_norm(self) -> float:
        """Returns the sum of the squares of all values, about as exact as float32."""
        # The scale squared in float64 is never 0, where the squares of small values would be.
        return float(self._scale) ** 2 * sum(float(np.einsum("i,i->", wide, wide)) for wide in self._wide_blocks())

    def _wide_blocks(self) -> Iterator[Array]:
        """Yields the integers as float32, in arrays that may be overwritten."""
        flat = self._levels.reshape(-1)
        room = np.empty(min(BLOCK, flat.size), dtype=np.float32)
        for start in range(0, flat.size, BLOCK):
            piece = flat[start : start + BLOCK]
            wide = room[: piece.size]
            wide[...] = piece
            yield wide


Values = Array | ScaledIntegers


def float_blocks(values: Values) -> Iterator[Array]:
    """Yields all values in order, as flat float32 arrays of at most ``BLOCK`` elements.

    An array may be a part of ``values``, and it may be overwritten when the next one is asked for.
    """
    if isinstance(values, ScaledIntegers):
        yield from values.blocks()
        return
    flat = np.ascontiguousarray(values).reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK]


def widened(values: Values) -> Array:
    """Returns values as one read-only float32 array: themselves if they are one."""
    if not isinstance(values, ScaledIntegers):
        return values
    whole = np.empty(values.shape, dtype=np.float32)
    flat, start = whole.reshape(-1), 0
    for block in values.blocks():
        flat[start : start + block.size] = block
        start += block.size
    whole.flags.writeable = False
    return whole
