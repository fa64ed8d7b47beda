"""The statistics of features over samples and time."""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.readers.column_statistics import column_sums


def test_windows_count_over_time() -> None:
    found = column_sums(np.array([[[1, 3], [5, 5]]]), ("a", "b"))
    assert (found.count, found.mean, found.std) == (2, (2.0, 5.0), (1.0, 1.0))
