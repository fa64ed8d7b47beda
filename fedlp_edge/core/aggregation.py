"""Layer-wise averaging that gives the same bits in every order of arrival.

FedLP averages each layer over the devices that sent it (arXiv 2303.06360, equations 5 and 9)::

    w_l <- w_l + sum_{k in S_l} n_k * delta_k,l / sum_{k in S_l} n_k

Floating-point sums depend on their order. Here every weighted delta is rounded once to a multiple of
``2**-SCALE_BITS`` and added as a 64-bit integer, which is exact and associative: any order, any grouping and
any restart between two updates give the same sum. docs/adr/0005-fixed-point-aggregation.md has the error bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SCALE_BITS = 42
"""Fraction bits of the fixed-point sum of *normalised* contributions (weight / weight capacity)."""

MAX_ABS_DELTA = 2.0**20
"""Largest absolute delta that admission lets through; with it a sum stays within 2**62, so int64 holds it."""

_BLOCK = 1 << 16  # elements; the float64 temporaries of one block stay in the second-level cache


class LayerwiseMean:
    """Weighted mean per tensor over whoever sent that tensor.

    Memory is 8 bytes per element of the tensors that were sent, whatever the number of devices.

    Args:
        weight_capacity: an upper bound of the sum of all weights. It fixes the scale, so it must be the same
            for every replay of a round: take it from the cohort when the round opens.
    """

    def __init__(self, weight_capacity: int) -> None:
        if weight_capacity < 1:
            raise ValueError(f"weight_capacity must be at least 1, not {weight_capacity}")
        # A power of two keeps weight * factor exact in float64, so the only rounding is the one to an integer.
        self._capacity_bits = (weight_capacity - 1).bit_length()
        self._sums: dict[str, npt.NDArray[np.int64]] = {}
        self._weights: dict[str, int] = {}

    def add(self, deltas: Mapping[str, Array], weight: int) -> None:
        """Adds one device's update.

        Args:
            deltas: by tensor name; float32, finite, no element beyond ``MAX_ABS_DELTA`` in magnitude
                (admission has checked that).
            weight: sample count, or 1 for uniform weights.

        Raises:
            ValueError: the weight is not positive, the weights exceed the capacity, or a shape differs from the
                one that others sent; nothing was added then.
        """
        if weight < 1:
            raise ValueError(f"weight must be at least 1, not {weight}")
        # All checks come first: a refused update leaves no trace in any sum.
        for name, delta in deltas.items():
            total = self.weight_of(name) + weight
            if total > 1 << self._capacity_bits:
                raise ValueError(f"weights of {name} sum to {total}, over the capacity of {1 << self._capacity_bits}")
            if name in self._sums and self._sums[name].shape != delta.shape:
                raise ValueError(f"{name} has shape {delta.shape}, but others sent {self._sums[name].shape}")
        factor = float(weight) * 2.0 ** (SCALE_BITS - self._capacity_bits)
        for name, delta in deltas.items():
            if name not in self._sums:
                self._sums[name] = np.zeros(delta.shape, dtype=np.int64)
            self._weights[name] = self.weight_of(name) + weight
            _accumulate(self._sums[name].reshape(-1), np.ascontiguousarray(delta).reshape(-1), factor)

    def weight_of(self, name: str) -> int:
        """Summed weight of the devices that sent ``name``; 0 if nobody did."""
        return self._weights.get(name, 0)

    def means(self) -> dict[str, Array]:
        """The mean delta of every tensor that somebody sent, as float32."""
        unit = 2.0 ** (self._capacity_bits - SCALE_BITS)
        return {
            # asarray: arithmetic turns an array without dimensions into a bare number.
            name: np.asarray(total.astype(np.float64) * (unit / self._weights[name]), dtype=np.float32)
            for name, total in self._sums.items()
        }


def _accumulate(total: npt.NDArray[np.int64], delta: Array, factor: float) -> None:
    scratch = np.empty(min(_BLOCK, delta.size), dtype=np.float64)
    for start in range(0, delta.size, _BLOCK):
        piece = delta[start : start + _BLOCK]
        scaled = scratch[: piece.size]
        # Widened first: numpy would multiply float32 by a Python number in float32, and round where it must not.
        scaled[...] = piece
        scaled *= factor
        np.rint(scaled, out=scaled)
        total[start : start + _BLOCK] += scaled.astype(np.int64)
