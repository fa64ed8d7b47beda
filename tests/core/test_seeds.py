from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.seeds import derive, uniform


def test_derive_gives_the_same_number_on_every_machine():
    assert derive(1, 2, "pi-1", "L3") == 7_388_929_942_005_033_808
    assert uniform(1, 2, "pi-1", "L3") == 0.8011093895465049


def test_derive_keeps_parts_apart():
    assert derive("ab", "c") != derive("a", "bc")
    assert derive(1, 23) != derive(12, 3)


@given(st.lists(st.integers() | st.text(max_size=5), min_size=1, max_size=4))
def test_draws_stay_in_their_ranges(parts):
    assert 0 <= derive(*parts) < 2**63
    assert 0 <= uniform(*parts) < 1
