"""This module reads rows of a table, or windows of successive rows of one series, as samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.row_files import AnyArray, Rows
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_rows

_BLOCK = 4096  # samples that are hashed together

Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Says which rows each of N samples has. Rows are counted in the order of series and time.

    Attributes:
        order: Position in the table of each row, int64 [R]; None if the table is in this order.
        starts: First row of each sample, int64 [N].
        window: Number of rows of a sample; 0 if a sample is a single row without a dimension of time.
        horizon: Number of rows from the last row of a sample to the row whose target is learned.
        first: First row of the series of each sample, int64 [N].
        last: Last row of the series of each sample, int64 [N].
        timed: Whether rows follow each other in time.
    """

    order: Indices | None
    starts: Indices
    window: int
    horizon: int
    first: Indices
    last: Indices
    timed: bool

    @property
    def rows(self) -> int:
        """Number of rows of a sample."""
        return max(1, self.window)

    def take(self, indices: Indices) -> WindowPlan:
        """Returns the plan of some of the samples, int64 [M]."""
        return replace(self, starts=self.starts[indices], first=self.first[indices], last=self.last[indices])

    def split(self, indices: Indices, share: float) -> tuple[Chosen, Chosen]:
        """Returns which of some samples lie before the last part of their series, and which lie in it; each bool [M].

        A sample that has rows, or a target, on both sides belongs to neither.
        """
        starts, cut = self.starts[indices], self._cut(indices, share)
        return starts + self.rows + self.horizon <= cut, starts >= cut

    def too_short(self, indices: Indices, share: float) -> Chosen:
        """Returns which of some samples are of a series whose last part holds no sample, bool [M]."""
        return self.last[indices] + 1 - self._cut(indices, share) < self.rows + self.horizon

    def _cut(self, indices: Indices, share: float) -> Indices:
        """Returns the row at which the last part of the series of each sample begins."""
        first, last = self.first[indices], self.last[indices]
        cut: Indices = last + 1 - np.floor(share * (last + 1 - first)).astype(np.int64)
        return cut


class WindowReader:
    """Reads samples that are rows or windows of a table.

    A window is given as [F, window], one row for each feature, as networks with convolutions over time take it.

    Args:
        rows: All rows of the table, float32 [R, F].
        plan: Rows of each sample.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, rows: Rows, plan: WindowPlan) -> None:
        self._rows = rows
        self._plan = plan
        features = rows.shape[1]
        self.shape: tuple[int, ...] = (features, plan.window) if plan.window else (features,)

    def __len__(self) -> int:
        return len(self._plan.starts)

    @property
    def nbytes(self) -> int:
        """Memory of the rows and of the plan, bytes."""
        plan = self._plan
        order = 0 if plan.order is None else plan.order.nbytes
        return self._rows.nbytes + order + plan.starts.nbytes + plan.first.nbytes + plan.last.nbytes

    def read(self, indices: Indices) -> AnyArray:
        """Returns the samples at some positions, float32 [B, F] or [B, F, window].

        Raises:
            DataError: The rows cannot be read.
        """
        plan = self._plan
        places = (plan.starts[indices][:, None] + np.arange(plan.rows)).reshape(-1)
        values = self._rows.take(places if plan.order is None else plan.order[places])
        if not plan.window:
            return values
        return np.ascontiguousarray(values.reshape(len(indices), plan.window, -1).transpose(0, 2, 1))

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the values of each sample."""
        blocks = [keys_of_rows(self.read(indices[at : at + _BLOCK])) for at in range(0, len(indices), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty(0, np.uint64)

    def holdout(self, indices: Indices, share: float) -> tuple[Chosen, Chosen]:
        """Returns which samples are trained on, and which are held out: the last of each series if there is time.

        Of series whose last part is shorter than a sample, some are held out as a whole, by a hash of how they begin.
        """
        if not self._plan.timed:
            held = is_held_out(self.keys(indices), share)
            return ~held, held
        trained, held = self._plan.split(indices, share)
        if (short := self._plan.too_short(indices, share)).any():
            whole = is_held_out(self._keys_of_series(indices[short]), share)
            trained[short], held[short] = ~whole, whole
        return trained, held

    def _keys_of_series(self, indices: Indices) -> Keys:
        """Returns a hash of the first rows of the series of each sample."""
        begins, series = np.unique(self._plan.first[indices], return_inverse=True)
        places = (begins[:, None] + np.arange(self._plan.rows)).reshape(-1)
        values = self._rows.take(places if self._plan.order is None else self._plan.order[places])
        return keys_of_rows(values.reshape(len(begins), -1))[series]

    def take_note(self) -> str:
        """Returns nothing: gaps were found before."""
        return ""
