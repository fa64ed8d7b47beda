from __future__ import annotations

import msgspec

from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.events import CohortMember, DeviceReady, OpenRound
from fedlp_edge.core.rounds.machine import make_round_machine
from fedlp_edge.core.rounds.settings import RoundSettings


def place(device: str, round: int = 0, depth: int = 1) -> CohortMember:
    return CohortMember(device, depth, 1.0, 10, 10, round=round)


def test_knows_a_place_by_its_device_and_the_round_of_its_task() -> None:
    cohort = Cohort(3, [place("b", 2), place("a")])
    assert cohort.place("a", 3) == place("a")
    assert cohort.place("b", 2) == place("b", 2)
    assert cohort.place("b", 3) is None
    assert [member.device for member in cohort.places] == ["a", "b"]


def test_replaces_the_place_of_a_device_whose_update_will_not_come() -> None:
    cohort = Cohort(3, [place("a", 2), place("b", 2)])
    cohort.add([place("a", 3), place("b", 3)], delivered=[place("b", 2)])
    assert cohort.places == (place("a", 3), place("b", 2), place("b", 3))


def test_machine_gives_each_place_its_rates_and_tells_who_is_in_the_round() -> None:
    def assign(round: int, given: CohortMember) -> CohortMember:
        return msgspec.structs.replace(given, lpr_of={"L1": round / 10})

    for mode in ("synchronous", "buffered"):
        settings = RoundSettings(mode=mode, min_devices=1)  # type: ignore[arg-type]
        machine = make_round_machine(settings, 1, now=0.0, assign=assign)
        effects = machine.handle(DeviceReady(place("a")), 0.0)
        opened = next(effect for effect in effects if isinstance(effect, OpenRound))
        assert opened.cohort == machine.cohort.places
        assert [member.lpr_of for member in opened.cohort] == [{"L1": 0.1}]
        assert machine.member("a", 1) == opened.cohort[0]
