"""What all plans of a run follow."""

from __future__ import annotations

import pytest

from fedlp_edge.core.planning.rules import PlanningRules


def test_a_plan_leaves_a_part_of_the_deadline_free() -> None:
    assert PlanningRules(deadline_seconds=100.0).planned_seconds == pytest.approx(80.0)
