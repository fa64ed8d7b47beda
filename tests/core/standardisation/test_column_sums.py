from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.standardisation.column_sums import ColumnSums, merged_columns
from fedlp_edge.learning.data.readers.column_statistics import column_sums

values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20)


@given(st.lists(values, min_size=1, max_size=5))
def test_merged_parts_have_the_mean_and_scale_of_all_values(parts: list[list[float]]) -> None:
    merged = merged_columns(column_sums(np.array(part)[:, None], ("a",)) for part in parts)
    everything = np.concatenate(parts)
    assert merged.count == len(everything)
    assert merged.mean[0] == pytest.approx(everything.mean(), abs=1e-6, rel=1e-9)
    if everything.std() > 1e-3:
        assert merged.std[0] == pytest.approx(everything.std(), rel=1e-6)


def test_large_means_do_not_hide_small_deviations() -> None:
    parts = [column_sums(np.array([[1e9 + i], [1e9 + i + 1]]), ("a",)) for i in (0, 2)]
    assert merged_columns(parts).std == pytest.approx((np.std([0, 1, 2, 3]),))


def test_a_report_with_a_missing_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="each column"):
        ColumnSums(names=("a",), count=1, mean=(0.0, 1.0), deviations=(0.0, 1.0))
