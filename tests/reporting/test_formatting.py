from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.reporting.formatting import (
    depth_bar,
    format_bytes,
    format_scores,
    format_seconds,
    format_share,
    format_values,
    main_metric,
    sparkline,
)


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


def test_values_come_by_depth_with_the_name_of_their_metric() -> None:
    assert format_values("accuracy", {2: 0.91, 1: 0.802}) == "accuracy depth 1: 80.2 %, depth 2: 91.0 %"
    assert format_values("balanced_accuracy", {1: 0.5}) == "balanced accuracy depth 1: 50.0 %"
    assert format_values("rmse", {1: 12.3456}) == "RMSE depth 1: 12.35"


def test_the_metric_of_the_run_stands_for_the_others() -> None:
    assert main_metric({"mae": 1, "rmse": 2}, "mae") == "mae"
    assert main_metric({"mae": 1, "rmse": 2}, "r2") == "rmse"
    assert main_metric({}, "rmse") == ""


def test_a_single_device_has_no_spread() -> None:
    mean, worst = {"accuracy": 0.5}, {"accuracy": 0.25}
    one = DeviceScores(devices=1, samples=9, mean=mean, spread={"accuracy": 0.0}, worst=mean)
    two = DeviceScores(devices=2, samples=9, mean=mean, spread={"accuracy": 0.25}, worst=worst)
    assert format_scores(one) == "50.0 %"
    assert format_scores(two) == "50.0 % ± 25.0 % (worst tenth 25.0 %)"


def test_draws_errors_beside_their_largest_value() -> None:
    assert sparkline([8.0, 4.0, 1.0], top=8.0) == "█▅▂"
    assert sparkline([0.0], top=0.0) == "▁"
