from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.tables.row_counters import RowCounters


def columns(rows: int, first: int = 0) -> np.ndarray:
    """A column that counts, one that stands still, and one of gaps."""
    number = np.arange(first, first + rows, dtype=np.float32)
    return np.stack([number, np.ones_like(number), np.full_like(number, np.inf)], axis=1)


def test_a_column_that_counts_on_over_parts_and_files_is_found() -> None:
    counters = RowCounters(("index", "still", "gaps"))
    counters.begin()
    counters.look_at(columns(10))
    assert counters.names == ()  # of so few rows it may be chance
    counters.look_at(columns(10, first=10))
    counters.begin()
    counters.look_at(columns(5))
    assert counters.names == ("index",)


def test_a_step_between_two_parts_is_seen() -> None:
    counters = RowCounters(("index", "still", "gaps"))
    counters.begin()
    counters.look_at(columns(15))
    counters.look_at(columns(15, first=16))
    assert counters.names == ()
