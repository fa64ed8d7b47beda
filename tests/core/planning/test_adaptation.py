"""What reports and rounds do to a plan.

The model with three depths takes 3, 6 and 9 s of training on this device, and a deadline of 10 s plans 8 s.
"""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.adaptation import (
    Adaptation,
    AdaptivePlanner,
    RoundOutcome,
    TrackRecord,
    planning_basis,
)
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import MemorySaving, PlannerSettings, SchemeSettings, TrainingSettings

FACTS = DeviceFacts(training_memory=10**12, training_macs_per_second=1e9, samples=1000)
EXACT = MemorySaving(allocator="exact")
GOOD, SLOW = RoundOutcome(1000, 3.0), RoundOutcome(1000, 8.5)


def planner(
    blueprint: Blueprint,
    *,
    deadline: float = 10.0,
    scheme: SchemeSettings | None = None,
    **settings: object,
) -> AdaptivePlanner:
    rules = PlanningRules(
        scheme=scheme or SchemeSettings(),
        planner=PlannerSettings(memory_margin=0.0, **settings),  # type: ignore[arg-type]
        training=TrainingSettings(batch_size=10),
        deadline_seconds=deadline,
    )
    return AdaptivePlanner(blueprint, rules)


def given_plan(depth: int, *, memory_bytes: int = 2_000_000, **changes: object) -> Plan:
    return msgspec.structs.replace(Plan(depth, 1.0, "as before", memory_bytes, 3.0 * depth), **changes)


def facts(**changes: object) -> DeviceFacts:
    return msgspec.structs.replace(FACTS, **changes)


def test_a_new_device_gets_what_the_planner_says(three_depths: Blueprint) -> None:
    chosen = planner(three_depths).after_report(FACTS)
    assert (chosen.depth, chosen.seconds, chosen.ceiling) == (2, 6.0, 0)


def test_a_plan_stays_while_it_fits(three_depths: Blueprint) -> None:
    known = given_plan(1)
    policy = planner(three_depths)
    assert policy.after_report(FACTS, known) is known
    # Twenty times slower: measured speeds differ from start to start.
    assert policy.after_report(facts(training_macs_per_second=5e7), known) is known
    assert policy.after_report(facts(training_memory=2_000_000), known) is known


def test_a_plan_that_no_longer_fits_the_memory_is_made_anew_below_its_ceiling(three_depths: Blueprint) -> None:
    known = given_plan(1, memory_bytes=10**12 + 1, ceiling=1)
    assert planner(three_depths).after_report(FACTS, known).depth == 1
    assert planner(three_depths).after_report(FACTS, msgspec.structs.replace(known, ceiling=0)).depth == 2


def test_another_device_under_the_same_name_is_planned_without_memories(three_depths: Blueprint) -> None:
    assert planner(three_depths).after_report(FACTS, given_plan(1, ceiling=1), changed=True).depth == 2


def test_a_device_that_could_bear_nothing_is_asked_again(three_depths: Blueprint) -> None:
    assert planner(three_depths).after_report(FACTS, given_plan(0)).depth == 2


@pytest.mark.parametrize(
    ("link", "depth"),
    [
        (2020.0, 2),  # 6 s, and 8,040 bytes down and up in 7.96 s: within the deadline of 14 s
        (2000.0, 1),  # 8.04 s: not within it
    ],
)
def test_a_link_that_makes_a_plan_hopeless_ends_it(three_depths: Blueprint, link: float, depth: int) -> None:
    policy = planner(three_depths, deadline=14.0)
    assert policy.after_report(facts(link_bytes_per_second=link), given_plan(2)).depth == depth


def test_a_dictated_depth_stays_whatever_a_device_reports(three_depths: Blueprint) -> None:
    policy = planner(three_depths, scheme=SchemeSettings(depth="full"), promote_after_rounds=1)
    known, record = given_plan(3), TrackRecord(4, 1)
    assert policy.after_report(facts(training_memory=1), known) is known
    assert policy.after_round(known, FACTS, record, SLOW) == Adaptation(None, record)


def test_memory_that_ran_out_takes_one_depth_for_good(three_depths: Blueprint) -> None:
    chosen = planner(three_depths).after_memory_failure(given_plan(3, lpr=0.5), FACTS, "killed")
    assert chosen == Plan(
        2,
        0.5,
        "depth 2 of 3 after depth 3 ran out of memory: killed",
        2_803_248,
        9.0,
        memory_saving=EXACT,
        ceiling=2,
    )
    assert planner(three_depths).after_memory_failure(given_plan(1), FACTS, "killed") is None


def test_memory_is_given_back_at_once_only_where_that_is_allowed(three_depths: Blueprint) -> None:
    chosen = planner(three_depths, techniques=()).after_memory_failure(given_plan(2), FACTS, "killed")
    assert chosen is not None
    assert (chosen.depth, chosen.memory_saving) == (1, MemorySaving())


def test_two_slow_rounds_in_a_row_take_one_depth(three_depths: Blueprint) -> None:
    policy = planner(three_depths)
    assert policy.after_round(given_plan(2), FACTS, TrackRecord(3, 0), SLOW) == Adaptation(None, TrackRecord(0, 1))
    assert policy.after_round(given_plan(2), FACTS, TrackRecord(0, 1), GOOD) == Adaptation(None, TrackRecord(1, 0))
    chosen, record = policy.after_round(given_plan(2), FACTS, TrackRecord(0, 1), SLOW)
    assert chosen is not None
    assert (chosen.depth, chosen.ceiling, chosen.memory_saving) == (1, 1, EXACT)
    assert chosen.explanation == "depth 1 of 3 after depth 2 trained 8 s where 8 are planned"
    assert record == TrackRecord()
    # At depth 1 there is nothing left to take.
    assert policy.after_round(given_plan(1), FACTS, TrackRecord(0, 1), SLOW) == Adaptation(None, TrackRecord(0, 2))


def test_a_round_that_saw_a_part_of_the_samples_counts_as_long_as_all_would_have_taken(
    three_depths: Blueprint,
) -> None:
    policy, half = planner(three_depths), RoundOutcome(1000, 5.0, 500)
    chosen, _ = policy.after_round(given_plan(2), FACTS, TrackRecord(0, 1), half)
    assert chosen is not None
    assert chosen.explanation == "depth 1 of 3 after depth 2 trained 10 s where 8 are planned"
    whole = RoundOutcome(1000, 5.0, 1000)
    assert policy.after_round(given_plan(2), FACTS, TrackRecord(0, 1), whole).plan is None


def test_good_rounds_promote_a_device_that_has_room(three_depths: Blueprint) -> None:
    # Depth 2 needs 2,803,248 bytes where 2,800,000 are free, but depth 1 took half of what was predicted.
    tight = facts(training_memory=2_800_000)
    policy = planner(three_depths, promote_after_rounds=2, techniques=())
    given = policy.after_report(tight)
    assert (given.depth, given.memory_bytes) == (1, 1_926_048)
    half = RoundOutcome(963_024, 3.0)
    assert policy.after_round(given, tight, TrackRecord(), half) == Adaptation(None, TrackRecord(1, 0))
    chosen, record = policy.after_round(given, tight, TrackRecord(1, 0), half)
    assert chosen is not None
    assert (chosen.depth, chosen.memory_bytes, chosen.ceiling, record) == (2, 1_401_624, 0, TrackRecord())
    assert chosen.explanation.endswith("; one more after 2 good rounds")
    # With what was predicted there is no room, and the rounds are counted from the beginning.
    as_predicted = RoundOutcome(1_926_048, 3.0)
    assert policy.after_round(given, tight, TrackRecord(1, 0), as_predicted) == Adaptation(None, TrackRecord())


def test_promotion_needs_to_be_asked_for_a_known_peak_and_no_failure(three_depths: Blueprint) -> None:
    given, record = given_plan(1), TrackRecord(5, 0)
    assert planner(three_depths).after_round(given, FACTS, record, GOOD).plan is None
    policy = planner(three_depths, promote_after_rounds=1)
    assert policy.after_round(given, FACTS, record, GOOD).plan is not None
    assert policy.after_round(given, FACTS, record, RoundOutcome(0, 5.0)).plan is None
    assert policy.after_round(given_plan(1, ceiling=1), FACTS, record, GOOD).plan is None


@pytest.mark.parametrize(("seconds", "depth"), [(5.0, None), (3.0, 2)])
def test_promotion_expects_the_next_depth_to_be_as_slow_as_this_one_was(
    three_depths: Blueprint, seconds: float, depth: int | None
) -> None:
    # At 5 s instead of 3, depth 2 would take 10 of the 8 s that are planned.
    policy = planner(three_depths, promote_after_rounds=1)
    chosen, _ = policy.after_round(given_plan(1), FACTS, TrackRecord(), RoundOutcome(1_926_048, seconds))
    assert (chosen and chosen.depth) == depth


def test_a_round_corrects_the_speed_that_a_device_reported_within_bounds(three_depths: Blueprint) -> None:
    policy = planner(three_depths)
    measured = facts(calibration=Calibration(correction=1.5))
    twice = policy.corrected_facts(given_plan(2), measured, 12.0)
    assert (twice.training_macs_per_second, twice.calibration) == (5e8, Calibration(correction=3.0))
    assert policy.corrected_facts(given_plan(2), FACTS, 600.0).training_macs_per_second == 2.5e8
    assert policy.corrected_facts(given_plan(2), FACTS, 0.006).training_macs_per_second == 4e9
    assert policy.corrected_facts(given_plan(2), FACTS, 0.0) is FACTS
    unknown = facts(training_macs_per_second=0.0)
    assert policy.corrected_facts(given_plan(2), unknown, 5.0) is unknown


def test_the_basis_of_a_plan_is_what_lasts() -> None:
    same = facts(training_memory=5, training_macs_per_second=1.0, load=0.9, link_bytes_per_second=5.0)
    assert planning_basis(same) == planning_basis(FACTS)
    for changes in ({"profile": "x"}, {"processor": "cuda"}, {"samples": 7}, {"threads": 9}, {"memory_total": 7}):
        assert planning_basis(facts(**changes)) != planning_basis(FACTS)


@pytest.mark.parametrize(("rate", "depth"), [(1.9e4, 1), (2e4, 2)])
def test_a_link_that_is_twice_as_fast_in_the_same_life_is_reason_for_another_plan(
    three_depths: Blueprint, rate: float, depth: int
) -> None:
    known, before = given_plan(1), facts(link_bytes_per_second=1e4)
    after = facts(link_bytes_per_second=rate)
    assert planner(three_depths).after_report(after, known, before=before).depth == depth
    assert planner(three_depths).after_report(after, known) is known
