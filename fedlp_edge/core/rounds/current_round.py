"""Keeps which round a run is in, its phase and its places: what a round machine and its mode both go by."""

from __future__ import annotations

from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.events import OpenRound, Phase, move


class CurrentRound:
    """The open round of a run, or the next one; only the round machine changes its phase and its number.

    Args:
        number: 1, or the first uncommitted round after a restart.
        count: Rounds of the run.

    Attributes:
        number: Number of the open round, or of the next one if none is open.
        phase: Phase of the run.
        cohort: Places of the open round; of the round before if none is open. The mode adds places to it.
    """

    def __init__(self, number: int, count: int) -> None:
        self._count = count
        self.number = number
        self.phase = Phase.WAITING if number <= count else Phase.FINISHED
        self.cohort = Cohort(number)

    @property
    def is_open(self) -> bool:
        """Whether a round is open, even if it collects no more updates."""
        return self.phase in (Phase.COLLECTING, Phase.CLOSING)

    def open(self, opened: OpenRound) -> None:
        """Goes from waiting to collecting, with the places of a round.

        Raises:
            ValueError: The run does not wait.
        """
        self.phase = move(self.phase, Phase.COLLECTING)
        self.cohort = Cohort(opened.round, opened.cohort)

    def resume(self, opened: OpenRound, cohort: Cohort | None) -> None:
        """Takes up the places of a round of an earlier life of the coordinator, and collects if it is still open.

        Args:
            opened: This round, or the one before it.
            cohort: Cohort object with the places of ``opened``; None to make one.

        Raises:
            ValueError: The run does not wait.
        """
        if opened.round == self.number:
            self.phase = move(self.phase, Phase.COLLECTING)
        self.cohort = cohort or Cohort(opened.round, opened.cohort)

    def close(self) -> None:
        """Goes from collecting to closing.

        Raises:
            ValueError: The round does not collect.
        """
        self.phase = move(self.phase, Phase.CLOSING)

    def commit(self, *, enough: bool) -> bool:
        """Goes from closing to the next round, or to the end after the last one; returns whether the run ends.

        Args:
            enough: Whether the run ends with this round, whichever it is.

        Raises:
            ValueError: The round is not closed.
        """
        self.number += 1
        ends = enough or self.number > self._count
        self.phase = move(self.phase, Phase.FINISHED if ends else Phase.WAITING)
        return ends
