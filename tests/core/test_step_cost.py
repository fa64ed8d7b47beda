from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.step_cost import Moment, envelope, highest

moments = st.lists(
    st.builds(Moment, st.integers(0, 1000).map(float), st.integers(0, 50).map(float)), min_size=1, max_size=12
)


def test_envelope_keeps_the_highest_moment_of_every_batch() -> None:
    weights, middle, activations = Moment(100.0, 0.0), Moment(60.0, 10.0), Moment(0.0, 20.0)
    lost = Moment(50.0, 9.0)  # below the middle one everywhere
    assert envelope([activations, lost, weights, middle]) == (weights, middle, activations)
    assert [highest((weights, middle, activations), batch) for batch in (1, 5, 10)] == [100.0, 110.0, 200.0]


def test_envelope_sorts_out_what_is_higher_only_below_one_sample() -> None:
    assert envelope([Moment(10.0, 0.0), Moment(0.0, 10.0)]) == (Moment(0.0, 10.0),)


@given(moments, st.integers(1, 200))
def test_envelope_is_as_high_as_all_moments(lines: list[Moment], batch: int) -> None:
    assert highest(envelope(lines), batch) == highest(lines, batch)
