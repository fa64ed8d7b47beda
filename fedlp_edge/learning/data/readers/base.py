"""This module defines what reads the samples of a source one batch at a time, so that they need not fit into memory."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.sample_keys import Keys


class SampleReader(Protocol):
    """Reads samples of a source at any positions, in any order."""

    def __len__(self) -> int:
        """Returns the number of samples."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values, uint8 or float32."""
        ...

    @property
    def nbytes(self) -> int:
        """Most memory that the reader takes between two reads, bytes."""
        ...

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Returns the samples at some positions, [B, ...].

        Raises:
            DataError: The source has become unusable.
        """
        ...

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of each sample at some positions, by which it is held out; it does not depend on the order."""
        ...

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which of the samples at some positions are trained on, and which are held out; each bool [M].

        A sample may be neither: a window of a time series that is partly held out.

        Args:
            indices: Positions of M samples.
            share: Share to hold out, below 1.
        """
        ...

    def take_note(self) -> str:
        """Returns in one line what was found wrong while reading and has not been told yet; empty for nothing."""
        ...
