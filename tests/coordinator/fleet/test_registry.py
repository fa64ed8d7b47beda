from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.fleet.registry import Registry
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings
from fedlp_edge.storage.journal import Journal
from tests.coordinator.fleets import facts, tiny_blueprint

LITTLE, PLENTY = 200_000_000, 10**12


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def registry(journal: Journal) -> Registry:
    return Registry(tiny_blueprint(), SchemeSettings(), TrainingSettings(), 60.0, journal)


def test_plans_depth_by_memory(journal: Journal) -> None:
    fleet = registry(journal)
    assert fleet.arrive("big", "s", facts(memory=PLENTY)).plan.depth == 2
    assert fleet.arrive("small", "s", facts(memory=LITTLE)).plan.depth == 1
    assert fleet.arrive("none", "s", facts(memory=1000)).plan.depth == 0


def test_gives_a_device_the_encoding_of_its_plan(journal: Journal) -> None:
    fleet = Registry(tiny_blueprint(), SchemeSettings(encoding="fp16+zstd"), TrainingSettings(), 300.0, journal)
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


def test_plans_anew_when_the_link_is_too_slow_for_the_plan(journal: Journal) -> None:
    fleet = registry(journal)
    first = fleet.arrive("a", "s1", facts(memory=PLENTY))
    nbytes = sum(unit.nbytes for unit in tiny_blueprint().exchanged_by(2))
    same = msgspec.structs.replace(facts(memory=PLENTY), link_bytes_per_second=2 * nbytes / 50.0)
    slower = msgspec.structs.replace(facts(memory=PLENTY), link_bytes_per_second=2 * nbytes / 70.0)

    assert fleet.arrive("a", "s1", same).plan == first.plan  # 48 s would be planned, but 60 are there
    assert fleet.arrive("a", "s1", slower).plan.depth < first.plan.depth


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
    shrunk = fleet.shrink("a", "killed")
    assert shrunk is not None
    assert shrunk.plan.depth == 1
    assert not shrunk.ready
    assert fleet.shrink("a", "killed") is None
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


# tiny_blueprint with a deadline of 60 s plans 48 s for a round.


def test_gives_one_depth_less_to_a_device_that_is_slow_twice_in_a_row(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts())
    assert [fleet.observe("a", 0, seconds) for seconds in (50.0, 10.0, 50.0)] == [None] * 3
    slow = fleet.observe("a", 0, 50.0)
    assert slow is not None
    assert (slow.plan.depth, slow.plan.ceiling, slow.ready) == (1, 1, False)
    assert slow.plan.explanation == "depth 1 of 2 after depth 2 trained 50 s where 48 are planned"
    assert fleet.observe("a", 0, 50.0) is fleet.observe("a", 0, 50.0) is None  # there is no depth left to take


def test_gives_one_depth_less_to_a_device_whose_time_twice_sufficed_for_half_of_its_samples(journal: Journal) -> None:
    fleet = registry(journal)
    fleet.arrive("a", "s", facts(samples=10))
    assert fleet.observe("a", 0, 40.0, samples=10) is None
    assert fleet.observe("a", 0, 40.0, samples=5) is None
    slow = fleet.observe("a", 0, 40.0, samples=5)
    assert slow is not None
    assert slow.plan.explanation == "depth 1 of 2 after depth 2 trained 80 s where 48 are planned"


def test_lets_a_device_climb_whose_rounds_took_less_than_was_predicted(journal: Journal) -> None:
    fleet = Registry(tiny_blueprint(), SchemeSettings(promote_after_rounds=3), TrainingSettings(), 60.0, journal)
    plan = fleet.arrive("a", "s", facts(memory=LITTLE)).plan
    assert plan.depth == 1
    assert [fleet.observe("a", plan.memory_bytes, 1.0) for _ in range(6)] == [None] * 6
    assert fleet.observe("a", plan.memory_bytes // 100, 1.0) is None
    assert fleet.observe("a", plan.memory_bytes // 100, 1.0) is None
    grown = fleet.observe("a", plan.memory_bytes // 100, 1.0)
    assert grown is not None
    assert grown.plan.depth == 2
    assert grown.plan.explanation.endswith("one more after 3 good rounds")
    assert grown.plan.memory_bytes <= LITTLE
    assert (
        Registry(tiny_blueprint(), SchemeSettings(), TrainingSettings(), 60.0, journal)
        .arrive("a", "s2", facts(memory=LITTLE))
        .plan.depth
        == 2
    )


def test_never_climbs_again_to_a_depth_that_failed(journal: Journal) -> None:
    fleet = Registry(tiny_blueprint(), SchemeSettings(promote_after_rounds=1), TrainingSettings(), 60.0, journal)
    fleet.arrive("a", "s", facts())
    shrunk = fleet.shrink("a", "killed")
    assert shrunk is not None
    assert shrunk.plan.memory_saving.allocator == "exact"
    assert [fleet.observe("a", 1000, 1.0) for _ in range(5)] == [None] * 5
    # Nor when it comes back with less memory and is planned anew.
    assert fleet.arrive("a", "s2", facts(memory=LITTLE - 1)).plan.depth == 1
    assert fleet.arrive("a", "s3", facts()).plan.depth == 1


@pytest.mark.parametrize(("seconds", "depth"), [(30.0, 1), (10.0, 2)])
def test_lets_a_device_climb_that_is_quicker_than_was_predicted(journal: Journal, seconds: float, depth: int) -> None:
    # Of the 48 s that may be planned, depth 1 is predicted to take 30 and depth 2 takes 60.
    fleet = Registry(tiny_blueprint(), SchemeSettings(promote_after_rounds=1), TrainingSettings(), 60.0, journal)
    slow = msgspec.structs.replace(facts(), training_macs_per_second=100.0)
    plan = fleet.arrive("a", "s", slow).plan
    assert (plan.depth, plan.seconds) == (1, 30.0)
    fleet.observe("a", plan.memory_bytes, seconds)
    assert fleet.members["a"].plan.depth == depth
    assert fleet.members["a"].plan.seconds == (20.0 if depth == 2 else 30.0)
