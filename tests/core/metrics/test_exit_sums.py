from __future__ import annotations

import pytest

from fedlp_edge.core.metrics.exit_sums import ExitSums, mean_losses, merged

FIRST = ExitSums({1: {"samples": (4.0,), "loss": (4.0,)}}, {1: {"samples": (4.0,), "loss": (2.0,)}})
SECOND = ExitSums({1: {"samples": (2.0,), "loss": (0.5,)}}, {1: {"samples": (2.0,), "loss": (1.0,)}})


def test_adds_up_the_parts_of_a_data_set() -> None:
    assert merged([FIRST, SECOND]) == ExitSums(
        {1: {"samples": (6.0,), "loss": (4.5,)}}, {1: {"samples": (6.0,), "loss": (3.0,)}}
    )
    assert merged([FIRST]) == FIRST


def test_parts_of_other_tasks_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="cannot be added"):
        merged([FIRST, ExitSums({1: {"samples": (1.0,)}}, {1: {"samples": (1.0,)}})])


def test_mean_that_is_no_finite_number_is_none() -> None:
    sums = {
        1: {"samples": (2.0,), "loss": (1e300,)},
        2: {"samples": (0.0,), "loss": (0.0,)},
        3: {"samples": (3.0,), "loss": (-6.0,)},
    }
    assert mean_losses(sums) == {1: None, 2: None, 3: -2.0}
