"""This module reads arrays in files, and chosen samples of other readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.arrays import stored
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.row_files import AnyArray, Rows
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_names

Chosen = npt.NDArray[np.bool_]


class ArrayReader:
    """Reads samples that are the rows of an array.

    Args:
        rows: The array, [N, ...] of any type of number.
        name: Name of the array in messages.
    """

    def __init__(self, rows: Rows, name: str) -> None:
        self._rows = rows
        self._name = name
        self.shape: tuple[int, ...] = rows.shape[1:]
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if rows.dtype == np.uint8 else np.float32)

    def __len__(self) -> int:
        return self._rows.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory of the array; nothing if it is in a file."""
        return self._rows.nbytes

    def read(self, indices: Indices) -> AnyArray:
        """Returns the samples at some positions, uint8 or float32 [B, ...].

        Raises:
            DataError: The file cannot be read, or a value is not finite.
        """
        return stored(self._rows.take(indices), self._name)

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the position of each sample, so that no sample has to be read for it."""
        return keys_of_names(str(index) for index in indices.tolist())

    def holdout(self, indices: Indices, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples are trained on, and which are held out."""
        held = is_held_out(self.keys(indices), share)
        return ~held, held

    def take_note(self) -> str:
        """Returns nothing."""
        return ""


class SelectedReader:
    """Reads the samples at some positions of another reader.

    Args:
        reader: The other reader.
        positions: Positions of the N samples, int64 [N].
    """

    def __init__(self, reader: SampleReader, positions: Indices) -> None:
        self._reader = reader
        self._positions = positions
        self.shape: tuple[int, ...] = reader.shape
        self.dtype: np.dtype[Any] = reader.dtype

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def nbytes(self) -> int:
        """Memory of the positions and of the other reader, bytes."""
        return self._positions.nbytes + self._reader.nbytes

    def read(self, indices: Indices) -> AnyArray:
        """Returns the samples at some positions, [B, ...].

        Raises:
            DataError: The source has become unusable.
        """
        return self._reader.read(self._positions[indices])

    def keys(self, indices: Indices) -> Keys:
        """Returns the other reader's hash of each sample."""
        return self._reader.keys(self._positions[indices])

    def holdout(self, indices: Indices, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples the other reader trains on, and which it holds out."""
        return self._reader.holdout(self._positions[indices], share)

    def take_note(self) -> str:
        """Returns the other reader's note."""
        return self._reader.take_note()


class ShapedReader:
    """Reads the samples of another reader in another shape.

    Args:
        reader: The other reader.
        shape: Shape of one sample, of as many values.
        dtype: Type of the values, uint8 or float32.
    """

    def __init__(self, reader: SampleReader, shape: tuple[int, ...], dtype: type[np.uint8] | type[np.float32]) -> None:
        self._reader = reader
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def nbytes(self) -> int:
        """Memory of the other reader, bytes."""
        return self._reader.nbytes

    def read(self, indices: Indices) -> AnyArray:
        """Returns the samples at some positions, [B, ...].

        Raises:
            DataError: The source has become unusable.
        """
        return self._reader.read(indices).reshape(len(indices), *self.shape).astype(self.dtype)

    def keys(self, indices: Indices) -> Keys:
        """Returns the other reader's hash of each sample."""
        return self._reader.keys(indices)

    def holdout(self, indices: Indices, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples the other reader trains on, and which it holds out."""
        return self._reader.holdout(indices, share)

    def take_note(self) -> str:
        """Returns the other reader's note."""
        return self._reader.take_note()
