"""The machine of a run: one interface, and the two modes behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fedlp_edge.core.rounds.buffered import BufferedRounds
from fedlp_edge.core.rounds.cohort import Assign, Cohort, as_drawn
from fedlp_edge.core.rounds.events import CohortMember, Effect, Event, OpenRound, Phase
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.rounds.synchronous import SynchronousRounds


class RoundMachine(Protocol):
    """What the coordinator and the simulation know of a machine."""

    phase: Phase
    cohort: Cohort

    @property
    def round(self) -> int:
        """The open round, or the one that will open next."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns what is to be done, in order."""

    def next_wakeup(self) -> float | None:
        """When to send the next Tick at the latest; None if only events matter."""

    def member(self, device: str, round: int) -> CohortMember | None:
        """The place of a device for its task of a round, if its update is still wanted."""

    def counts_in(self, device: str) -> int:
        """The round that counts an update of this device if it arrives now."""

    def seconds_left(self, now: float) -> float:
        """Until the deadline of a task that is given now; 0 if no round is open."""

    def fitness(self, device: str) -> Fitness:
        """Whether a device can be counted on."""

    def resume(
        self,
        opened: OpenRound,
        arrived: frozenset[str],
        now: float,
        *,
        missed: frozenset[str] = frozenset(),
        early: frozenset[str] = frozenset(),
        cohort: Cohort | None = None,
    ) -> None:
        """Takes up a round that was open when the coordinator ended."""


def make_round_machine(
    settings: RoundSettings,
    seed: int,
    *,
    now: float,
    next_round: int = 1,
    expected: frozenset[str] = frozenset(),
    fitness: Mapping[str, Fitness] | None = None,
    assign: Assign = as_drawn,
) -> RoundMachine:
    """The machine of the mode that is set; see the classes for the arguments."""
    kind = BufferedRounds if settings.mode == "buffered" else SynchronousRounds
    return kind(settings, seed, now=now, next_round=next_round, expected=expected, fitness=fitness, assign=assign)
