from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.fleet.registry import Registry
from fedlp_edge.core.planning.adaptation import AdaptivePlanner, RoundOutcome, TrackRecord
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.settings import Encoding, PlannerSettings, UpdateSettings
from fedlp_edge.storage.journal import Journal
from tests.coordinator.fleets import facts, tiny_blueprint

LITTLE, PLENTY = 200_000_000, 10**12


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path / "journal.sqlite")


def registry(journal: Journal, *, promote_after_rounds: int = 0, encoding: Encoding = "none") -> Registry:
    rules = PlanningRules(
        update=UpdateSettings(encoding=encoding),
        planner=PlannerSettings(promote_after_rounds=promote_after_rounds),
        deadline_seconds=60.0,
    )
    return Registry(AdaptivePlanner(tiny_blueprint(), rules), journal)


def outcome(seconds: float, peak_memory: int = 0, samples: int | None = None) -> RoundOutcome:
    return RoundOutcome(peak_memory, seconds, samples)


def test_plans_depth_by_memory(journal: Journal) -> None:
    fleet = registry(journal)
    assert fleet.arrive("big", "s", facts(memory=PLENTY)).plan.depth == 2
    assert fleet.arrive("small", "s", facts(memory=LITTLE)).plan.depth == 1
    assert fleet.arrive("none", "s", facts(memory=1000)).plan.depth == 0


def test_gives_a_device_the_encoding_of_its_plan(journal: Journal) -> None:
    fleet = registry(journal, encoding="fp16+zstd")
    assert fleet.arrive("a", "s", facts()).member(uniform=True) == CohortMember(
        "a", 2, 1.0, 10, 1, encoding="fp16+zstd"
    )


def test_keeps_the_plan_when_a_device_comes_back_with_more_or_other_speed(journal: Journal) -> None:
    registry(journal).arrive("a", "s1", facts(memory=LITTLE))
    again = registry(journal).arrive("a", "s2", facts(memory=PLENTY))
    assert again.plan.depth == 1


def test_plans_anew_when_the_device_changed(journal: Journal) -> None:
    registry(journal).arrive("a", "s1", facts(memory=LITTLE, samples=10))
    assert registry(journal).arrive("a", "s2", facts(memory=PLENTY, samples=11)).plan.depth == 2


def test_plans_anew_when_the_plan_no_longer_fits(journal: Journal) -> None:
    fleet = registry(journal)
    assert fleet.arrive("a", "s1", facts(memory=PLENTY)).plan.depth == 2
    assert fleet.arrive("a", "s1", facts(memory=LITTLE)).plan.depth == 1


def test_is_ready_only_for_the_session_and_depth_that_were_assigned(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "new", facts())
    assert fleet.ready("a", "old", 2) is None
    assert fleet.ready("a", "new", 1) is None
    assert fleet.ready("ghost", "new", 2) is None
    assert journal.ready_devices() == frozenset()
    assert fleet.ready("a", "new", 2) is not None
    assert journal.ready_devices() == {"a"}


def test_stays_ready_when_the_same_session_reports_again(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    fleet.ready("a", "s", 2)
    assert fleet.arrive("a", "s", facts()).ready
    assert not fleet.arrive("a", "another life", facts()).ready


def test_ignores_the_last_will_of_an_earlier_life(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "new", facts())
    fleet.ready("a", "new", 2)
    assert fleet.leave("a", "old") is None
    assert fleet.leave("a", "new") is not None
    assert journal.ready_devices() == frozenset()


def test_gives_one_depth_less_after_memory_ran_out_and_remembers_it(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    shrunk = fleet.memory_failed("a", "killed")
    assert shrunk is not None
    assert shrunk.plan.depth == 1
    assert not shrunk.ready
    assert fleet.memory_failed("a", "killed") is None
    assert registry(journal).arrive("a", "s2", facts()).plan.depth == 1


def test_writes_to_the_journal_only_what_is_new(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    fleet.ready("a", "s", 2)
    before = journal._db.total_changes
    fleet.arrive("a", "s", facts())
    fleet.ready("a", "s", 2)
    assert journal._db.total_changes == before
    fleet.leave("a", "s")
    assert journal._db.total_changes == before + 1


def test_changes_the_plan_of_a_device_that_is_slow_twice_in_a_row_under_one_plan(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    fleet.ready("a", "s", 2)
    assert [fleet.trained("a", outcome(seconds)) for seconds in (50.0, 10.0, 50.0)] == [None] * 3
    fleet.arrive("a", "s", facts())  # an idle device reports again, which changes nothing
    slow = fleet.trained("a", outcome(50.0))
    assert slow is not None
    assert (slow.plan.depth, slow.ready, slow.record) == (1, False, TrackRecord())
    assert registry(journal).arrive("a", "s2", facts()).plan == slow.plan
    assert fleet.trained("ghost", outcome(50.0)) is None


def test_forgets_how_rounds_went_in_another_life(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    assert fleet.trained("a", outcome(50.0)) is None
    fleet.arrive("a", "another life", facts())
    assert fleet.trained("a", outcome(50.0)) is None


def test_remembers_a_promotion_and_never_promotes_to_a_depth_that_failed(journal: Journal) -> None:
    fleet = registry(journal, promote_after_rounds=1)
    plan = fleet.arrive("a", "s", facts(memory=LITTLE)).plan
    grown = fleet.trained("a", outcome(1.0, plan.memory_bytes // 100))
    assert grown is not None
    assert grown.plan.depth == 2
    assert registry(journal).arrive("a", "s2", facts(memory=LITTLE)).plan.depth == 2
    assert fleet.memory_failed("a", "killed") is not None
    assert [fleet.trained("a", outcome(1.0, 1000)) for _ in range(5)] == [None] * 5
    # Nor when it comes back with less memory and is planned anew.
    assert fleet.arrive("a", "s2", facts(memory=LITTLE - 1)).plan.depth == 1
    assert fleet.arrive("a", "s3", facts()).plan.depth == 1
