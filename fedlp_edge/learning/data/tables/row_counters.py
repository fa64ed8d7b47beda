"""This module finds columns that number the rows of a table: an index that was saved with it is no measurement."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FEW_ROWS = 20  # of fewer, a column may rise by one by chance


class RowCounters:
    """Finds the columns that rise by one from each row to the next, as an index does that was saved with a table.

    Args:
        features: Names of the columns to look at.
    """

    def __init__(self, features: tuple[str, ...]) -> None:
        self._features = features
        self._left = np.arange(len(features))
        self._last: npt.NDArray[np.float32] | None = None
        self._rows = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that have done so in every file so far."""
        return tuple(self._features[index] for index in self._left.tolist()) if self._rows >= _FEW_ROWS else ()

    def begin(self) -> None:
        """Begins with the next file."""
        self._last = None

    def look_at(self, rows: npt.NDArray[np.float32]) -> None:
        """Looks at successive rows of a file, [n, F]."""
        if not len(rows) or not len(self._left):
            return
        seen = rows if self._last is None else np.concatenate([self._last[None], rows])
        with np.errstate(invalid="ignore"):  # infinite values are gaps
            rises = (np.diff(seen[:, self._left], axis=0) == 1).all(axis=0)
        self._left, self._last, self._rows = self._left[rises], rows[-1], self._rows + len(rows)
