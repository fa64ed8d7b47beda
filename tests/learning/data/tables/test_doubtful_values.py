"""Numbers that are probably no measurements."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.data.tables.doubtful_values import far_value, mark_of_gaps


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        ([1.0, 2.0, -999.0, -999.0], -999.0),
        ([1.0, 2.0, -999.0], None),  # once may be a value
        ([-900.0, 2.0, -999.0, -999.0], None),  # not farther from the rest than the rest is wide
        ([-7.0, -7.0, 1.0], None),
        ([np.nan], None),
    ],
)
def test_a_usual_mark_far_from_the_rest_is_one_of_gaps(values: list[float], mark: float | None) -> None:
    assert mark_of_gaps(np.array(values)) == mark


def test_one_value_a_thousand_times_as_far_away_as_the_others_are_wide_is_far() -> None:
    usual = np.arange(30.0)
    assert far_value(usual) is None
    assert far_value(np.append(usual, 1e6)) == 1e6
    assert far_value(np.array([0.0, 1e6])) is None  # too few to tell
