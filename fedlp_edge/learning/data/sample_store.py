"""This module defines where the samples of a data set are: in memory, or somewhere from which they are read in parts.

Training, evaluation and export read batches through this interface, so that they work with more samples than fit into
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from fedlp_edge.learning.data.holdout import Keys, keys_of_rows


class SampleStore(Protocol):
    """Gives samples as stored, that is not yet normalised."""

    def __len__(self) -> int:
        """Returns the number of samples."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which samples arrive."""
        ...

    @property
    def nbytes(self) -> int:
        """Most memory that samples take between two reads, bytes."""
        ...

    def read(self, indices: Tensor | slice) -> Tensor:
        """Returns the samples at some indices, uint8 or float32 [B, ...].

        Raises:
            DataError: A sample cannot be read.
        """
        ...

    def subset(self, indices: Tensor) -> SampleStore:
        """Returns the samples at some indices, int64 [M] on the CPU, as a store of their own."""
        ...

    def keys(self) -> Keys:
        """Returns a hash of each sample, uint64 [N]; equal samples have equal hashes, on every device."""
        ...

    def to(self, device: torch.device) -> SampleStore:
        """Returns a store whose samples arrive on a device."""
        ...


@dataclass(frozen=True)
class SamplesInMemory:
    """Holds all samples in one tensor.

    Attributes:
        x: Samples as stored, uint8 or float32 [N, ...].
    """

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def device(self) -> torch.device:
        """Device that holds the samples."""
        return self.x.device

    @property
    def nbytes(self) -> int:
        """Memory that the samples take, bytes."""
        return self.x.nbytes

    def read(self, indices: Tensor | slice) -> Tensor:
        """Returns the samples at some indices, [B, ...]; of a slice without copying them."""
        return self.x[indices if isinstance(indices, slice) else indices.to(self.x.device)]

    def subset(self, indices: Tensor) -> Self:
        """Returns a copy of the samples at some indices, int64 [M] on the CPU."""
        return type(self)(self.x[indices.to(self.x.device)])

    def keys(self) -> Keys:
        """Returns a hash of the bytes of each sample, uint64 [N]."""
        return keys_of_rows(self.x.numpy(force=True))

    def to(self, device: torch.device) -> Self:
        """Returns the samples in the memory of a device."""
        return type(self)(self.x.to(device))
