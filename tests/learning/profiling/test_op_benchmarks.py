from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.planning.calibration import OperationCost
from fedlp_edge.core.step_cost import Kind, Work
from fedlp_edge.learning.profiling.op_benchmarks import fit, measure_operation_costs

WORKS = [Work(*numbers) for numbers in itertools.product((0, 10**8), (10**4, 10**6), (10**3, 10**6), (1, 3))]
paces = st.builds(OperationCost, *(st.floats(low, 10 * low) for low in (1e-11, 1e-10, 1e-10, 1e-5)))


@settings(max_examples=20, deadline=None)
@given(paces)
def test_fit_finds_the_pace_that_made_the_seconds(pace: OperationCost) -> None:
    seconds = [16 * pace.sample(work) + pace.step(work) for work in WORKS]
    found = fit(WORKS, seconds, 16)
    for work, taken in zip(WORKS, seconds, strict=True):
        assert 16 * found.sample(work) + found.step(work) == pytest.approx(taken, rel=0.02)


def test_fit_gives_no_negative_pace() -> None:
    # Less time for more work: the best that is possible is to take the work for nothing.
    found = fit([Work(0, 0, 0, 1), Work(10**6, 0, 0, 1)], [2e-3, 1e-3], 1)
    assert found.mac == 0.0
    assert 1e-3 <= found.operation <= 2e-3


def test_paces_cover_all_kinds_and_take_the_clock_that_is_given() -> None:
    ticks = itertools.count()
    measured = measure_operation_costs(1, lambda: next(ticks) * 1e-3)
    assert set(measured) == set(get_args(Kind))
    # Every trial takes one tick, whatever it does.
    assert all(pace.operation > 0 or pace.moved > 0 for pace in measured.values())
