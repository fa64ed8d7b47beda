from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.reporting.formatting import depth_bar, format_bytes, format_seconds, format_share, sparkline


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1536, "1.5 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_600, "1.0 MB"),
        (44_700_000, "44.7 MB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_writes_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_writes_bytes_within_five_percent(count: int) -> None:
    number, unit = format_bytes(count).split()

    assert float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit] == pytest.approx(count, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (4.26, "4.3 s"), (75.3, "1:15"), (3599.6, "1:00:00"), (3725, "1:02:05")]
)
def test_writes_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_writes_shares() -> None:
    assert format_share(0.9131) == "91.3 %"
    assert format_share(None) == "-"


def test_draws_the_last_values() -> None:
    assert sparkline([0.0, 0.5, 0.99, 1.0, 1.5, -1.0]) == "▁▅███▁"
    assert sparkline([0.0, 0.0, 1.0], width=2) == "▁█"


def test_draws_a_depth() -> None:
    assert depth_bar(3, 4) == "▮▮▮▯"
    assert depth_bar(2, 2) == "▮▮"
