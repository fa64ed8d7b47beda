"""Stories of what happens to a fleet, in whatever order, for the tests of what its round machine promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from hypothesis import strategies as st

from fedlp_edge.core.rounds.events import (
    CohortMember,
    DeviceChanged,
    DeviceGone,
    DeviceReady,
    DeviceUnable,
    Event,
    RoundCommitted,
    TimePassed,
    UpdateArrived,
    UpdateMissed,
)
from fedlp_edge.core.rounds.fitness import DeviceFault
from fedlp_edge.core.rounds.machine import RoundMachine

Happening = Event | float | str
"""An event, so many seconds that pass, ``commit`` of the open round, or ``restart`` of the coordinator."""


class PlayedFleet(Protocol):
    """A coordinator reduced to its bookkeeping, to which stories happen."""

    now: float
    machine: RoundMachine

    def feed(self, event: Event) -> None:
        """Hands over an event, as a coordinator does."""

    def restart(self) -> None:
        """The coordinator is killed and started again."""


def member(device: str, depth: int, weight: int) -> CohortMember:
    return CohortMember(device, depth, 1.0, weight, weight)


def happenings(names: Sequence[str], *more: st.SearchStrategy[Happening]) -> st.SearchStrategy[Happening]:
    """What may happen in both modes, and more."""
    devices = st.sampled_from(names)
    return st.one_of(
        st.builds(DeviceReady, st.builds(member, devices, st.integers(1, 2), st.sampled_from([1, 10, 1000]))),
        st.builds(DeviceGone, devices, st.booleans()),
        st.builds(UpdateArrived, devices),
        st.builds(UpdateMissed, devices),
        st.builds(UpdateMissed, devices, st.sampled_from(DeviceFault), st.just("why")),
        st.builds(UpdateMissed, devices, st.just(DeviceFault.WORKER), st.just("why")),
        st.builds(DeviceUnable, devices, st.sampled_from(DeviceFault), st.just("why")),
        st.builds(DeviceChanged, devices),
        st.just(100.0),
        st.just("commit"),
        st.just("restart"),
        st.floats(0.0, 150.0),
        *more,
    )


def play(fleet: PlayedFleet, names: Sequence[str], story: Iterable[Happening]) -> None:
    """Everybody gets ready, so that a round opens; then the story takes its course."""
    for device in names:
        fleet.feed(DeviceReady(member(device, 1, 10)))
    for happening in story:
        match happening:
            case float():
                fleet.now += happening
                fleet.feed(TimePassed())
            case "restart":
                fleet.restart()
            case "commit":
                fleet.feed(RoundCommitted(fleet.machine.round))
            case _:
                fleet.feed(happening)  # type: ignore[arg-type]
