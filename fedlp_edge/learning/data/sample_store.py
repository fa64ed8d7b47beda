"""This module defines where the samples of a data set are: in memory, or somewhere from which they are read in parts.

Training, evaluation and export read batches through this interface, so that they work with more samples than fit into
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_rows

_CPU = torch.device("cpu")

Chosen = npt.NDArray[np.bool_]
"""Which of N samples are meant, bool [N]."""


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

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, which are the channels of a sample; empty if they have none."""
        ...

    def arranged(self, features: tuple[str, ...]) -> SampleStore:
        """Returns the samples with their features in the order of some names, all of which must be there."""
        ...

    def keys(self) -> Keys:
        """Returns a hash of each sample, uint64 [N]; equal samples have equal hashes, on every device."""
        ...

    def holdout(self, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples are trained on, and which are held out; a sample may be neither.

        Args:
            share: Share to hold out, below 1.
        """
        ...

    def take_note(self) -> str:
        """Returns in one line what was found wrong while reading and has not been told yet; empty for nothing."""
        ...

    def to(self, device: torch.device) -> SampleStore:
        """Returns a store whose samples arrive on a device."""
        ...


@dataclass(frozen=True)
class SamplesInMemory:
    """Holds all samples in one tensor.

    Attributes:
        x: Samples as stored, uint8 or float32 [N, ...].
        names: Hashes of the names of the samples, uint64 [N], by which they are held out; None to use their values.
        features: Names of the features, which are the channels of a sample; empty if they have none.
    """

    x: Tensor
    names: Keys | None = None
    features: tuple[str, ...] = ()

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
        names = None if self.names is None else self.names[indices.numpy()]
        return replace(self, x=self.x[indices.to(self.x.device)], names=names)

    def arranged(self, features: tuple[str, ...]) -> Self:
        """Returns a copy of the samples with their features in the order of some names."""
        order = _places(features, self.features).to(self.x.device)
        return replace(self, x=self.x.index_select(1, order), features=features)

    def keys(self) -> Keys:
        """Returns a hash of the name or the bytes of each sample, uint64 [N]."""
        return keys_of_rows(self.x.numpy(force=True)) if self.names is None else self.names

    def holdout(self, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples are trained on, and which are held out by their hashes."""
        held = is_held_out(self.keys(), share)
        return ~held, held

    def take_note(self) -> str:
        """Returns nothing: what could not be read was left out."""
        return ""

    def to(self, device: torch.device) -> Self:
        """Returns the samples in the memory of a device."""
        return replace(self, x=self.x.to(device))


@dataclass(frozen=True)
class SamplesOnDemand:
    """Reads samples through a reader when they are needed.

    Attributes:
        reader: Reader of the source.
        positions: Positions of the N samples in the reader, int64 [N].
        device: Device on which samples arrive.
        features: Names of the features; empty if they have none.
        order: Channel of the reader that each channel is, int64 [channels] on the CPU; None for the reader's order.
    """

    reader: SampleReader
    positions: Indices
    device: torch.device = _CPU
    features: tuple[str, ...] = ()
    order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.reader.shape

    @property
    def nbytes(self) -> int:
        """Most memory that the reader takes between two reads, bytes."""
        return self.reader.nbytes

    def read(self, indices: Tensor | slice) -> Tensor:
        """Reads the samples at some indices, [B, ...].

        Raises:
            DataError: The source has become unusable.
        """
        places = indices if isinstance(indices, slice) else indices.numpy(force=True)
        read = torch.from_numpy(self.reader.read(self.positions[places]))
        return (read if self.order is None else read.index_select(1, self.order)).to(self.device)

    def arranged(self, features: tuple[str, ...]) -> Self:
        """Returns the samples with their features in the order of some names."""
        order = _places(features, self.features)
        return replace(self, features=features, order=order if self.order is None else self.order[order])

    def subset(self, indices: Tensor) -> Self:
        """Returns the samples at some indices, int64 [M] on the CPU, read through the same reader."""
        return replace(self, positions=self.positions[indices.numpy()])

    def keys(self) -> Keys:
        """Returns the reader's hash of each sample, uint64 [N]."""
        return self.reader.keys(self.positions)

    def holdout(self, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples the reader trains on, and which it holds out."""
        return self.reader.holdout(self.positions, share)

    def take_note(self) -> str:
        """Returns the reader's note."""
        return self.reader.take_note()

    def to(self, device: torch.device) -> Self:
        """Returns the samples, arriving on a device."""
        return replace(self, device=device)


def _places(names: tuple[str, ...], among: tuple[str, ...]) -> Tensor:
    place_of = {name: place for place, name in enumerate(among)}
    return torch.tensor([place_of[name] for name in names])
