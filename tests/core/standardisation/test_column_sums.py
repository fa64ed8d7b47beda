from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.standardisation.column_sums import ColumnSums, merged_columns
from fedlp_edge.core.standardisation.input_statistics import InputStatistics
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


def test_windows_count_over_time() -> None:
    found = column_sums(np.array([[[1, 3], [5, 5]]]), ("a", "b"))
    assert (found.count, found.mean, found.std) == (2, (2.0, 5.0), (1.0, 1.0))


def test_a_report_with_a_missing_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="each column"):
        ColumnSums(names=("a",), count=1, mean=(0.0, 1.0), deviations=(0.0, 1.0))


def site(*names: str, mean: float) -> ColumnSums:
    count = len(names)
    return ColumnSums(names=names, count=2, mean=tuple(mean + i for i in range(count)), deviations=(0.0,) * count)


def test_the_order_of_reports_and_columns_does_not_matter() -> None:
    agreed = []
    for order in ("xy", "yx"):
        statistics = InputStatistics()
        for name in order:
            statistics.offer(name, {"x": site("a", "b", mean=1.0), "y": site("b", "a", mean=5.0)}[name])
        assert statistics.open
        assert statistics.settle()
        assert not statistics.open
        agreed.append(statistics.agreed)
    assert agreed[0] == agreed[1]
    assert agreed[0] is not None
    assert (agreed[0].names, agreed[0].mean) == (("a", "b"), (3.5, 3.5))


def test_what_was_agreed_does_not_change() -> None:
    statistics = InputStatistics(site("a", mean=1.0))
    statistics.offer("x", site("a", mean=9.0))
    assert not statistics.open
    assert not statistics.settle()
    assert statistics.agreed == site("a", mean=1.0)


def test_other_features_than_those_of_the_first_site_are_left_out() -> None:
    statistics = InputStatistics()
    statistics.offer("x", site("a", mean=1.0))
    statistics.offer("y", site("b", mean=9.0))
    assert statistics.settle()
    assert statistics.agreed == site("a", mean=1.0)
