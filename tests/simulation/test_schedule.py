"""Who works when: the course of a run, without anybody who learns."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.errors import DeviceError
from fedlp_edge.simulation.experiment import Experiment, FleetSettings
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.schedule import DevicesMissing, RoundClosing, RoundExtended, RoundOpening, Schedule, Step


def fleet(**seconds: float) -> dict[str, VirtualDevice]:
    """Devices by name, each with the seconds that a round takes it."""
    return {
        name: VirtualDevice(number, "", Plan(1, 1.0, "", 0, taken), CohortMember(name, 1, 1.0, 10, 10))
        for number, (name, taken) in enumerate(seconds.items())
    }


def steps(experiment: Experiment, devices: dict[str, VirtualDevice]) -> list[Step]:
    return list(Schedule(experiment, devices, lambda round, place: place).steps())


def closings(experiment: Experiment, devices: dict[str, VirtualDevice]) -> list[RoundClosing]:
    return [step for step in steps(experiment, devices) if isinstance(step, RoundClosing)]


def experiment(rounds: RoundSettings, **chances: float) -> Experiment:
    return Experiment(rounds=rounds, fleet=msgspec.convert({"devices": 3, **chances}, FleetSettings))


def test_waits_for_everybody_in_time() -> None:
    told = steps(experiment(RoundSettings(count=2, deadline_seconds=10)), fleet(a=1, b=3, c=2))
    assert [type(step) for step in told] == [RoundOpening, RoundClosing, RoundOpening, RoundClosing]
    first = told[1]
    assert isinstance(first, RoundClosing)
    assert (first.round, sorted(first.contributors), first.lost, first.seconds) == (1, ["a", "b", "c"], {}, 3.0)
    assert first.capacity == 2 * 30
    assert told[2] == RoundOpening(2, ("a", "b", "c"))


def test_closes_at_the_deadline_without_the_slow() -> None:
    (closing,) = closings(experiment(RoundSettings(count=1, deadline_seconds=2)), fleet(a=1, b=1, c=5))
    assert sorted(closing.contributors) == ["a", "b"]
    assert sorted(closing.lost) == sorted(closing.late) == ["c"]
    assert closing.seconds == 2.0


def test_waits_longer_below_the_quorum() -> None:
    told = steps(experiment(RoundSettings(count=1, deadline_seconds=2, quorum=1.0)), fleet(a=1, b=1, c=5))
    assert [step for step in told if isinstance(step, RoundExtended)] == [RoundExtended(1, 2, 3)] * 2
    closing = told[-1]
    assert isinstance(closing, RoundClosing)
    assert (len(closing.contributors), closing.seconds) == (3, 5.0)


def test_loses_who_drops_out_and_counts_no_work_of_theirs() -> None:
    told = closings(
        experiment(RoundSettings(count=30, deadline_seconds=9, quorum=0.1), dropout=0.5), fleet(a=1, b=1, c=1)
    )
    lost = sum(len(closing.lost) for closing in told)
    assert 25 < lost < 65
    assert not any(closing.late for closing in told)
    # All three drop out now and then; a new deadline begins then.
    assert {closing.seconds for closing in told} >= {1.0, 9.0, 18.0}


def test_draws_who_is_there_for_every_round_alike() -> None:
    run = experiment(RoundSettings(count=20, min_devices=2), availability=0.6)
    told = steps(run, fleet(a=1, b=1, c=1))
    cohorts = [step.devices for step in told if isinstance(step, RoundOpening)]
    assert {len(cohort) for cohort in cohorts} == {2, 3}
    assert any(isinstance(step, DevicesMissing) for step in told)
    assert told == steps(run, fleet(a=1, b=1, c=1))


def test_ends_a_fleet_that_never_gets_together() -> None:
    with pytest.raises(DeviceError, match="never there at once"):
        steps(experiment(RoundSettings(count=1, min_devices=3), availability=0.01), fleet(a=1, b=1, c=1))
    with pytest.raises(DeviceError, match="too few updates"):
        steps(experiment(RoundSettings(count=1, quorum=1.0), dropout=0.99999), fleet(a=1, b=1, c=1))


def test_makes_a_version_of_every_two_updates_where_rounds_overlap() -> None:
    settings = RoundSettings(count=4, mode="buffered", buffer_size=2, deadline_seconds=100)
    told = closings(experiment(settings), fleet(a=2, b=2, c=5))
    assert [sorted(closing.contributors) for closing in told] == [["a", "b"]] * 2 + [["a", "c"], ["a", "b"]]
    # c got its task in round 1 and delivered at 5 s, when a and b had made two versions and worked on the third.
    assert told[2].contributors["c"].round == 1
    assert told[3].contributors["b"].round == 3
    assert [closing.oldest_task for closing in told] == [1, 1, 3, 3]


def test_goes_the_same_way_again() -> None:
    settings = RoundSettings(count=12, mode="buffered", buffer_size=2, deadline_seconds=7, devices_per_round=2)
    run = experiment(settings, dropout=0.3, availability=0.8)
    assert steps(run, fleet(a=2, b=3, c=5)) == steps(run, fleet(a=2, b=3, c=5))
