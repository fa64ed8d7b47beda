"""This module keeps in memory as many decoded samples as a bound allows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.sample_keys import Keys
from fedlp_edge.learning.data.readers.unread_files import UnreadFiles

_ABSENT = -1


class CachedReader:
    """Reads through another reader and keeps the samples that it has read first, as many as fit.

    Nothing that is kept makes room for another sample. Training reads all samples once an epoch in a new random order,
    so that every sample is as likely as any other to be needed next, and dropping one gains nothing.

    The memory is taken at once and as a whole, so that what is measured of a device afterwards, such as the memory that
    is left for training, already knows of it.

    Args:
        reader: Reader of the samples.
        bound: Most bytes to keep.
        unread: Files that the reader has put something else in place of; None if it never does. What may come back is
            not kept.
    """

    def __init__(self, reader: SampleReader, bound: int, unread: UnreadFiles | None = None) -> None:
        self._reader = reader
        self._unread = unread
        per_sample = max(1, math.prod(reader.shape) * reader.dtype.itemsize)
        capacity = max(0, min(len(reader), bound // per_sample))
        self._kept = np.empty((capacity, *reader.shape), reader.dtype)
        self._kept.fill(0)  # the system gives memory only to what is written
        self._slots = np.full(len(reader), _ABSENT, np.int32)
        self._used = 0

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._reader.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return self._reader.dtype

    @property
    def nbytes(self) -> int:
        """Memory of the kept samples, whether there are any yet or not, and of the reader, bytes."""
        return self._kept.nbytes + self._slots.nbytes + self._reader.nbytes

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Returns the samples at some positions, from memory where they are there.

        Raises:
            DataError: The source has become unusable.
        """
        slots = self._slots[indices]
        absent = slots == _ABSENT
        if not absent.any():
            kept: npt.NDArray[Any] = self._kept[slots]
            return kept
        wanted, where = np.unique(indices[absent], return_inverse=True)
        read = self._reader.read(wanted)
        made = np.empty((len(indices), *self.shape), self.dtype)
        made[~absent] = self._kept[slots[~absent]]
        made[absent] = read[where]
        lasting = slice(None) if self._unread is None else ~self._unread.are_lost(wanted)
        self._keep(wanted[lasting], read[lasting])
        return made

    def keys(self, indices: Indices) -> Keys:
        """Returns the reader's hash of each sample."""
        return self._reader.keys(indices)

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which samples the reader trains on, and which it holds out."""
        return self._reader.holdout(indices, share)

    def take_note(self) -> str:
        """Returns the reader's note."""
        return self._reader.take_note()

    def _keep(self, wanted: Indices, read: npt.NDArray[Any]) -> None:
        count = min(len(wanted), len(self._kept) - self._used)
        places = slice(self._used, self._used + count)
        self._kept[places] = read[:count]
        self._slots[wanted[:count]] = np.arange(places.start, places.stop)
        self._used += count
