from __future__ import annotations

import pytest

from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.current_round import CurrentRound
from fedlp_edge.core.rounds.events import CohortMember, OpenRound, Phase

A = CohortMember("a", 1, 1.0, 10, 10)
B = CohortMember("b", 1, 1.0, 10, 10)


def test_goes_through_its_rounds_to_the_last() -> None:
    current = CurrentRound(1, count=2)
    assert (current.phase, current.number, current.is_open) == (Phase.WAITING, 1, False)
    current.open(OpenRound(1, (A,), 20))
    assert (current.phase, current.cohort.places, current.is_open) == (Phase.COLLECTING, (A,), True)
    current.close()
    assert (current.phase, current.is_open) == (Phase.CLOSING, True)
    assert not current.commit(enough=False)
    assert (current.phase, current.number, current.is_open) == (Phase.WAITING, 2, False)
    assert current.cohort.places == (A,)  # until the next round opens
    current.open(OpenRound(2, (B,), 20))
    current.close()
    assert current.commit(enough=False)
    assert (current.phase, current.number, current.is_open) == (Phase.FINISHED, 3, False)


def test_ends_early_when_the_run_has_learned_enough() -> None:
    current = CurrentRound(1, count=9)
    current.open(OpenRound(1, (A,), 20))
    current.close()
    assert current.commit(enough=True)
    assert (current.phase, current.number) == (Phase.FINISHED, 2)


def test_run_that_has_all_its_rounds_is_finished_from_the_start() -> None:
    assert CurrentRound(3, count=2).phase is Phase.FINISHED


def test_resumed_round_collects_and_a_committed_one_gives_its_places_alone() -> None:
    current = CurrentRound(4, count=9)
    current.resume(OpenRound(3, (A,), 20), None)
    assert (current.phase, current.number, current.cohort.round) == (Phase.WAITING, 4, 3)
    places = Cohort(4, [B])
    current.resume(OpenRound(4, (B,), 20), places)
    assert (current.phase, current.number) == (Phase.COLLECTING, 4)
    assert current.cohort is places


def test_round_cannot_close_before_it_opens() -> None:
    with pytest.raises(ValueError, match=r"^a run cannot go from 'waiting for devices' to 'aggreg"):
        CurrentRound(1, count=1).close()
