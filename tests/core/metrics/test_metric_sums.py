from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.metrics.metric_sums import added

COUNTS = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(tuple)


def test_sums_of_the_same_names_add_up_number_by_number():
    assert added([{"hits": (1.0, 2.0), "samples": (3.0,)}, {"samples": (4.0,), "hits": (0.0, 5.0)}]) == {
        "hits": (1.0, 7.0),
        "samples": (7.0,),
    }


def test_no_parts_have_no_sums():
    assert added([]) == {}


def test_sums_of_other_names_are_refused():
    with pytest.raises(ValueError, match="sums of errors cannot be added to sums of hits"):
        added([{"hits": (1.0,)}, {"errors": (1.0,)}])


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        added([{"hits": (1.0, 2.0)}, {"hits": (1.0,)}])


@given(st.lists(COUNTS, min_size=2, max_size=6), st.integers(1, 5))
def test_it_does_not_matter_how_parts_are_grouped(parts, cut):
    sums = [{"hits": part} for part in parts]
    assert added([added(sums[:cut]), *sums[cut:]]) == added(sums)
