from __future__ import annotations

import pytest

from fedlp_edge.core.rounds.events import CohortMember, Phase, move


def test_run_goes_from_waiting_to_its_end() -> None:
    phase = Phase.WAITING
    for to in (Phase.COLLECTING, Phase.CLOSING, Phase.WAITING, Phase.COLLECTING, Phase.CLOSING, Phase.FINISHED):
        phase = move(phase, to)
    assert phase is Phase.FINISHED


@pytest.mark.parametrize("to", Phase)
def test_nothing_follows_the_end(to: Phase) -> None:
    with pytest.raises(ValueError, match=f"^a run cannot go from 'finished' to '{to.value}'$"):
        move(Phase.FINISHED, to)


def test_updates_cannot_be_left_uncollected() -> None:
    with pytest.raises(
        ValueError, match=r"^a run cannot go from 'waiting for devices' to 'aggregating and evaluating'$"
    ):
        move(Phase.WAITING, Phase.CLOSING)


def test_task_of_a_place_is_named_after_the_round_that_gave_it() -> None:
    assert CohortMember("a", 1, 1.0, 10, 10).task_round(7) == 7
    assert CohortMember("a", 1, 1.0, 10, 10, round=5).task_round(7) == 5
