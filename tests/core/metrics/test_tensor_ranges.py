"""Ranges of a fleet: no single device decides, whatever it tells."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.metrics.tensor_ranges import TensorRange, TensorRanges, merged_range

VALUES = st.floats(-1e6, 1e6)
PAIRS = st.tuples(VALUES, VALUES).map(lambda pair: (min(pair), max(pair)))


def test_the_most_extreme_device_on_either_side_is_left_out() -> None:
    assert merged_range([(-1.0, 4.0), (-2.0, 6.0), (-3.0, 5.0)]) == (-2.0, 5.0)
    twenty = [(-float(number), float(number)) for number in range(1, 21)]
    assert merged_range(twenty) == (-18.0, 18.0)


def test_two_devices_are_too_few() -> None:
    assert merged_range([(-1.0, 4.0), (-2.0, 6.0)]) is None
    assert merged_range([]) is None


@given(st.lists(PAIRS, min_size=2, max_size=25), PAIRS)
def test_one_device_that_lies_cannot_widen_a_range_nor_leave_the_others_out(
    honest: list[tuple[float, float]], lie: tuple[float, float]
) -> None:
    merged = merged_range([*honest, lie])
    assert merged is not None
    low, high = merged
    assert min(low for low, _ in honest) <= low <= high <= max(high for _, high in honest)


@pytest.mark.parametrize(
    "text",
    [b"[[2,1.0,1.0,3.0,2.0]]", b"[[2,5.0,1.0,0.0,1.0]]", b"[[0,1.0,1.0,0.0,1.0]]", b"[[2,1.0,1.0,0.0,1e31]]",
     b"[[2,1.0,1.0,null,1.0]]", b"[" + b"[2,1.0,1.0,0.0,1.0]," * 1024 + b"[2,1.0,1.0,0.0,1.0]]"],
    ids=["low over high", "sum over magnitude", "no values", "too large", "not a number", "too many"],
)  # fmt: skip
def test_what_no_model_has_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=TensorRanges)


def test_ranges_come_back() -> None:
    told = (TensorRange(2, 1.0, 1.5, -1.0, 2.0),)
    assert msgspec.json.decode(msgspec.json.encode(told), type=TensorRanges) == told
