from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.rounds.staleness import factor, weight_in


def test_factor_falls_with_the_root_of_the_staleness():
    assert [factor(staleness, 0.5) for staleness in (0, 1, 3, 8, 15)] == [256, 181, 128, 85, 64]


def test_factor_is_the_same_for_all_without_an_exponent():
    assert factor(7, 0.0) == 256


def test_weight_is_plain_in_synchronous_rounds():
    assert weight_in(RoundSettings(), 30, 4, 4) == 30


def test_weight_is_scaled_in_buffered_rounds():
    settings = RoundSettings(mode="buffered", staleness_exponent=1.0)
    assert weight_in(settings, 30, 4, 4) == 30 * 256
    assert weight_in(settings, 30, 1, 4) == 30 * 64


@given(st.integers(0, 10**6), st.floats(0, 5))
def test_factor_never_rises_and_never_vanishes(staleness: int, exponent: float):
    assert 1 <= factor(staleness + 1, exponent) <= factor(staleness, exponent) <= 256
