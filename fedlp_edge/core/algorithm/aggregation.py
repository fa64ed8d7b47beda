"""Layer-wise averaging that gives the same bits in every order of arrival.

FedLP averages each layer over the devices that sent it (arXiv 2303.06360, equations 5 and 9)::

    w_l <- w_l + sum_{k in S_l} n_k * delta_k,l / sum_{k in S_l} n_k

Floating-point sums depend on their order. Here every weighted delta is rounded once to a multiple of
``2**-SCALE_BITS`` and added as a 64-bit integer, which is exact and associative: any order, any grouping and
any restart between two updates give the same sum. docs/adr/0005-fixed-point-aggregation.md has the error bound.

Running statistics are no changes but *values*: what a device measured on its samples. Their mean is that of the values,
whichever version of the model a device started from, so it lies between them: a variance is never negative. They may
be of any size, so they have sums of their own (``exact_sum``).

A device that holds the leading share of a tensor's channels (HeteroFL, arXiv 2010.01264, equations 4 and 5) sends a
*leading block*: it counts where it reaches, so that each element is averaged over those who hold it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.algorithm import exact_sum
from fedlp_edge.core.algorithm.scaled_integers import BLOCK, ScaledIntegers, Values, float_blocks, widened
from fedlp_edge.core.blueprint import TensorSpec

Array = npt.NDArray[np.float32]
Sums = npt.NDArray[np.int64]
Shape = tuple[int, ...]

SCALE_BITS = 42
"""Fraction bits of the fixed-point sum of *normalised* contributions (weight / weight capacity)."""

_SHIFT = 1.5 * 2.0**52
"""Added to a number of less than half of 2**52 it gives one between 2**52 and 2**53, where float64 has steps of 1."""

_SHIFT_BITS = np.array(_SHIFT).view(np.int64)
_MOST_SHIFTED = 2.0**51

MAX_ABS_DELTA = 2.0**20
"""Largest absolute delta that admission lets through; with it a sum stays within 2**62, so int64 holds it."""


def capacity_of(weights: Iterable[int]) -> int:
    """Room for updates of these weights, and for as much again: replacements rarely have to change the scale."""
    return max(1, 2 * sum(weights))


def capacity_bits(weight_capacity: int) -> int:
    """Bits of the power of two that a capacity is rounded up to; sums with equal bits have one scale."""
    return (weight_capacity - 1).bit_length()


def sum_shape(tensor: TensorSpec) -> Shape:
    """Shape of the sum of a tensor, as ``LayerwiseMean.arrays`` gives it."""
    return tensor.shape if tensor.trainable else (len(exact_sum.UNITS), *tensor.shape)


@dataclass(frozen=True)
class SumArrays:
    """The sums of a mean as plain integer arrays, for shared memory, a message or a file.

    Attributes:
        sums: Sum by tensor, in the tensor's shape (of a statistic behind the limbs, see ``exact_sum``).
        weights: Summed weights by tensor name, [blocks, 1 + dimensions]: in each row a summed weight and the shape of
            the block that it was sent for.
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    weights: dict[str, Sums] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any update was counted."""
        return bool(self.sums)


class LayerwiseMean:
    """Weighted mean per tensor over whoever sent that tensor.

    Memory is 8 bytes per element of the tensors that were sent, whatever the number of devices.

    Args:
        weight_capacity: An upper bound of the sum of all weights. It fixes the scale, so it must be the same
            for every replay of a round: take it from the cohort when the round opens.
        shapes: Whole shape of each tensor of which devices may send leading blocks. All devices send the same
            shape of a tensor that is not named here.
        statistics: Names of the tensors that devices send the values of, not the changes.
    """

    def __init__(
        self,
        weight_capacity: int,
        shapes: Mapping[str, Shape] | None = None,
        statistics: Collection[str] = frozenset(),
    ) -> None:
        if weight_capacity < 1:
            raise ValueError(f"weight_capacity must be at least 1, not {weight_capacity}")
        # A power of two keeps weight * factor exact in float64, so the only rounding is the one to an integer.
        self._capacity_bits = capacity_bits(weight_capacity)
        self._shapes = shapes or {}
        self._statistics = statistics
        self._sums: dict[str, Sums] = {}
        self._weights: dict[str, dict[Shape, int]] = {}

    def add(self, update: Mapping[str, Values], weight: int) -> None:
        """Adds one device's update.

        Args:
            update: Values by tensor name: the change, or the value of a statistic; float32, finite, no element of a
                change beyond ``MAX_ABS_DELTA`` in magnitude (admission has checked that).
            weight: Sample count, or 1 for uniform weights.

        Raises:
            ValueError: The weight is not positive, the weights exceed the capacity, or a shape is neither that of
                the tensor nor a leading block of it; nothing was added then.
        """
        if weight < 1:
            raise ValueError(f"weight must be at least 1, not {weight}")
        # All checks come first: a refused update leaves no trace in any sum.
        for name, delta in update.items():
            self._check(name, delta.shape, weight)
        factor = float(weight) * 2.0 ** (SCALE_BITS - self._capacity_bits)
        for name, delta in update.items():
            total = self._counted(name, delta.shape, weight)
            if name in self._statistics:
                block = total[(slice(None), *_leading(delta.shape))]
                exact_sum.add(block, widened(delta), float(weight) * 2.0**-self._capacity_bits)
                continue
            # The block of a device that holds the whole tensor is the sum itself, not a copy.
            block = np.ascontiguousarray(total[_leading(delta.shape)]) if delta.shape != total.shape else total
            _accumulate(block.reshape(-1), delta, factor)
            if block is not total:
                total[_leading(delta.shape)] = block

    def merge(self, other: LayerwiseMean) -> None:
        """Adds what another mean has summed up, as if its devices had been added here.

        Args:
            other: Sums of the same round; left as it is.

        Raises:
            ValueError: The other mean has another scale, the weights exceed the capacity, or a shape does not fit;
                nothing was
                added then.
        """
        if other._capacity_bits != self._capacity_bits:
            theirs, mine = 1 << other._capacity_bits, 1 << self._capacity_bits
            raise ValueError(f"sums of capacity {theirs} cannot be added to sums of capacity {mine}")
        for name in other._sums:
            self._check(name, other._shape_of(name), other.weight_of(name))
        for name, total in other._sums.items():
            for shape, weight in other._weights[name].items():
                self._counted(name, shape, weight)
            self._sums[name][_leading(total.shape)] += total

    def arrays(self) -> SumArrays:
        """The sums as plain integer arrays, not copied; `from_arrays` takes them back."""
        weights: dict[str, Sums] = {}
        for name, blocks in self._weights.items():
            rows = [(weight, *shape) for shape, weight in sorted(blocks.items())]
            weights[name] = np.array(rows, dtype=np.int64)
        return SumArrays(dict(self._sums), weights)

    @classmethod
    def from_arrays(
        cls,
        arrays: SumArrays,
        weight_capacity: int,
        shapes: Mapping[str, Shape] | None = None,
        statistics: Collection[str] = frozenset(),
    ) -> Self:
        """A mean that goes on from what `arrays` gave, in those very arrays.

        Args:
            arrays: Arrays of a mean with the same capacity; contiguous.
            weight_capacity: Capacity, as for the class.
            shapes: Shapes, as for the class.
            statistics: Statistics, as for the class.
        """
        mean = cls(weight_capacity, shapes, statistics)
        mean._sums.update(arrays.sums)
        for name, rows in arrays.weights.items():
            mean._weights[name] = {tuple(shape): weight for weight, *shape in rows.tolist()}
        return mean

    def weight_of(self, name: str) -> int:
        """Summed weight of the devices that sent ``name`` or a block of it; 0 if nobody did."""
        return sum(self._weights.get(name, {}).values())

    def unsent(self, name: str) -> npt.NDArray[np.bool_] | None:
        """Where a tensor that somebody sent lies outside of every block; None if there is no such place."""
        whole = self._shape_of(name)
        if whole in self._weights[name]:
            return None
        mask = np.ones(whole, dtype=np.bool_)
        for shape in self._weights[name]:
            mask[_leading(shape)] = False
        return mask

    def means(self) -> dict[str, Array]:
        """The mean of what was sent of every tensor, as float32; 0 where no block reaches."""
        # asarray: arithmetic turns an array without dimensions into a bare number.
        return {name: np.asarray(self._mean(name), dtype=np.float32) for name in self._sums}

    def _mean(self, name: str) -> npt.NDArray[np.float64] | Array:
        total, divisor = self._sums[name], self._divisor(name)
        if name in self._statistics:
            return exact_sum.value(total) / (divisor * 2.0**-self._capacity_bits)
        factor = 2.0 ** (self._capacity_bits - SCALE_BITS) / divisor
        # Computed in float64, of which no array as large as the sum is made.
        return np.multiply(total, factor, out=np.empty(total.shape, np.float32), dtype=np.float64, casting="unsafe")

    def _shape_of(self, name: str) -> Shape:
        """Shape of a tensor that somebody sent: of its sum without the limbs."""
        shape = self._sums[name].shape
        return shape[1:] if name in self._statistics else shape

    def _check(self, name: str, shape: Shape, weight: int) -> None:
        total = self.weight_of(name) + weight
        if total > 1 << self._capacity_bits:
            raise ValueError(f"weights of {name} sum to {total}, over the capacity of {1 << self._capacity_bits}")
        whole = self._shapes.get(name)
        if whole is not None:
            if len(shape) != len(whole) or any(part > side for part, side in zip(shape, whole, strict=True)):
                raise ValueError(f"{name} has shape {shape}, which is no leading block of {whole}")
        elif name in self._sums and self._shape_of(name) != shape:
            raise ValueError(f"{name} has shape {shape}, but others sent {self._shape_of(name)}")

    def _counted(self, name: str, shape: Shape, weight: int) -> Sums:
        """Books the weight of a block, and gives the sum that the block belongs to."""
        weights = self._weights.setdefault(name, {})
        weights[shape] = weights.get(shape, 0) + weight
        if name not in self._sums:
            whole = self._shapes.get(name, shape)
            sums = exact_sum.zeros(whole) if name in self._statistics else np.zeros(whole, dtype=np.int64)
            self._sums[name] = sums
        return self._sums[name]

    def _divisor(self, name: str) -> float | npt.NDArray[np.float64]:
        """Summed weight of whoever sent an element; infinite where nobody did, which makes its mean 0."""
        weights, whole = self._weights[name], self._shape_of(name)
        if weights.keys() == {whole}:
            return float(weights[whole])
        divisor = np.zeros(whole, dtype=np.float64)
        for shape, weight in weights.items():
            divisor[_leading(shape)] += weight
        divisor[divisor == 0] = np.inf
        return divisor


def _leading(shape: Shape) -> tuple[slice, ...]:
    """Selects the leading block of a shape."""
    return tuple(slice(side) for side in shape)


def _accumulate(total: Sums, delta: Values, factor: float) -> None:
    scratch = np.empty(min(BLOCK, total.size), dtype=np.float64)
    small = isinstance(delta, ScaledIntegers) and delta.bound * factor < _MOST_SHIFTED
    start = 0
    for piece in float_blocks(delta):
        scaled = scratch[: piece.size]
        # Widened first: numpy would multiply float32 by a Python number in float32, and round where it must not.
        scaled[...] = piece
        scaled *= factor
        if small:
            # The sum of both is rounded to a multiple of 1, half to even as rint does, and its last 52 bits count them.
            scaled += _SHIFT
            whole = scaled.view(np.int64)
            whole -= _SHIFT_BITS
        else:
            np.rint(scaled, out=scaled)
            whole = scaled.astype(np.int64)
        total[start : start + piece.size] += whole
        start += piece.size
