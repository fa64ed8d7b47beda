from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.fleet.known_devices import PlanChanges
from coordinator.fleet.registry import Registry
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.reporting.events import UpdateAccepted
from fedlp_edge.storage.journal import Journal
from tests.coordinator.fleets import facts, tiny_blueprint


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two devices of depth 2, in rounds of 60 seconds."""
    rules = PlanningRules(deadline_seconds=60.0)
    registry = Registry(AdaptivePlanner(tiny_blueprint(), rules), Journal.open(tmp_path / "journal.sqlite"))
    for device in ("a", "b"):
        registry.arrive(device, "s", facts())
    return registry


def accepted(device: str, seconds: float) -> UpdateAccepted:
    return UpdateAccepted(
        time=0.0, round=1, device=device, layers_sent=("L1",), samples=10, loss=0.5, seconds=seconds, bytes_up=100
    )


def test_collects_devices_whose_plan_changed_until_they_are_taken(registry: Registry) -> None:
    changes = PlanChanges(registry)
    for device in ("a", "b", "a", "b"):
        changes.observe(accepted(device, 50.0))
    taken = changes.take()
    assert [(member.device, member.plan.depth, member.ready) for member in taken] == [("b", 1, False), ("a", 1, False)]
    assert changes.take() == []


def test_passes_over_devices_that_are_in_time_or_gone(registry: Registry) -> None:
    changes = PlanChanges(registry)
    for device, seconds in (("a", 50.0), ("a", 1.0), ("a", 50.0), ("ghost", 50.0), ("ghost", 50.0)):
        changes.observe(accepted(device, seconds))
    assert changes.take() == []
    assert registry.members["a"].plan.depth == 2
