"""Defines the interface of round machines and makes the one for the configured mode."""

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
    """The interface of a round machine for the coordinator and the simulation.

    Attributes:
        phase: Phase of the run.
        cohort: Places of the open round; of the round before if none is open.
    """

    phase: Phase
    cohort: Cohort

    @property
    def round(self) -> int:
        """Number of the open round, or of the next one if none is open."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns its effects, in the order in which they must be carried out."""

    def next_wakeup(self) -> float | None:
        """Returns the time by which ``TimePassed`` must be sent, in seconds; None if the machine waits for events."""

    def member(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device for its task of ``round``; None if its update is not wanted."""

    def counts_in(self, device: str) -> int:
        """Returns the round in which an update of a device counts if it arrives now."""

    def seconds_left(self, now: float) -> float:
        """Returns the seconds until the deadline of a task that is given now; 0 if no round is open."""

    def fitness(self, device: str) -> Fitness:
        """Returns the fitness of a device."""

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
        """Resumes a round that was open when the coordinator ended; see the two classes for the arguments."""


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
    """Returns the round machine for the mode in ``settings``; see its class for the arguments."""
    kind = BufferedRounds if settings.mode == "buffered" else SynchronousRounds
    return kind(settings, seed, now=now, next_round=next_round, expected=expected, fitness=fitness, assign=assign)
