from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.rounds.events import (
    CloseRound,
    CohortMember,
    DeviceReady,
    FinishRun,
    OpenRound,
    Phase,
    RoundCommitted,
    UpdateArrived,
)
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.core.rounds.settings import RoundSettings

A = CohortMember("a", 1, 1.0, 10, 10)


def settings(mode: str) -> RoundSettings:
    return RoundSettings(mode=mode, count=1, buffer_size=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_both_modes_take_a_run_from_its_first_device_to_its_end(mode: str) -> None:
    machine = make_round_machine(settings(mode), 1, now=0.0)
    assert (machine.phase, machine.round) == (Phase.WAITING, 1)

    effects = machine.handle(DeviceReady(A), 0.0)
    (opened,) = [effect for effect in effects if isinstance(effect, OpenRound)]
    assert [member.device for member in opened.cohort] == ["a"]
    assert machine.counts_in("a") == 1
    assert machine.seconds_left(100.0) == (200.0 if mode == "synchronous" else 300.0)

    effects = machine.handle(UpdateArrived("a"), 1.0)
    assert CloseRound(1, ("a",), ()) in effects
    assert FinishRun() in machine.handle(RoundCommitted(1), 2.0)
    assert machine.phase is Phase.FINISHED


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_both_modes_end_before_the_last_round_when_the_run_has_learned_enough(mode: str) -> None:
    machine = make_round_machine(msgspec.structs.replace(settings(mode), count=9), 1, now=0.0)
    machine.handle(DeviceReady(A), 0.0)
    machine.handle(UpdateArrived("a"), 1.0)
    assert machine.handle(RoundCommitted(1, enough=True), 2.0) == [FinishRun()]
    assert machine.phase is Phase.FINISHED


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_both_modes_go_on_where_an_earlier_life_ended(mode: str) -> None:
    failed = Fitness(failures=1, round=9, reason="it was too hot")
    machine = make_round_machine(
        RoundSettings(mode=mode),
        1,
        now=0.0,
        next_round=8,
        expected=frozenset("ab"),
        fitness={"b": failed},  # type: ignore[arg-type]
    )

    assert machine.round == 8
    assert machine.fitness("b") == failed
    assert machine.next_wakeup() == 20.0
    assert machine.handle(DeviceReady(A), 1.0)
    assert machine.phase is Phase.WAITING
