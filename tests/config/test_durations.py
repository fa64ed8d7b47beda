from __future__ import annotations

import pytest

from fedlp_edge.config.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), (600.0, 600.0), ("1.5s", 1.5), ("5m", 300.0), ("1 h", 3600.0), ("2d", 172800.0)]
)
def test_a_time_may_have_a_unit(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "5 weeks", "1m30s", "nan"])
def test_what_is_no_time_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; it must be seconds, or a number with s, m, h or d, such as 5m"):
        seconds_of(text)
