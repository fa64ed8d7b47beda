from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.step_cost import MemoryPoint, peak_bytes, upper_envelope

memory_points = st.lists(
    st.builds(MemoryPoint, st.integers(0, 1000).map(float), st.integers(0, 50).map(float)), min_size=1, max_size=12
)


def test_envelope_keeps_the_highest_moment_of_every_batch() -> None:
    weights, middle, activations = MemoryPoint(100.0, 0.0), MemoryPoint(60.0, 10.0), MemoryPoint(0.0, 20.0)
    lost = MemoryPoint(50.0, 9.0)  # below the middle one everywhere
    assert upper_envelope([activations, lost, weights, middle]) == (weights, middle, activations)
    assert [peak_bytes((weights, middle, activations), batch) for batch in (1, 5, 10)] == [100.0, 110.0, 200.0]


def test_envelope_sorts_out_what_is_higher_only_below_one_sample() -> None:
    assert upper_envelope([MemoryPoint(10.0, 0.0), MemoryPoint(0.0, 10.0)]) == (MemoryPoint(0.0, 10.0),)


@given(memory_points, st.integers(1, 200))
def test_envelope_is_as_high_as_all_moments(lines: list[MemoryPoint], batch: int) -> None:
    assert peak_bytes(upper_envelope(lines), batch) == peak_bytes(lines, batch)
