"""Who is ready for work, and whether that is enough to open a round."""

from __future__ import annotations

from collections.abc import Iterable

from fedlp_edge.core.round_events import Effect, Participant, StillWaiting
from fedlp_edge.core.round_settings import RoundSettings
from fedlp_edge.core.selection import cohort


class Lobby:
    """The devices that hold their submodel and wait for work, or have work and are connected.

    Args:
        settings: how many a round needs, whom it prefers, and how long to wait for those that were there before.
        seed: of the run.
        expected: devices that were ready before a restart.
        now: the time.
    """

    def __init__(self, settings: RoundSettings, seed: int, expected: frozenset[str], now: float) -> None:
        self._settings = settings
        self._seed = seed
        self._expected = expected
        self._rejoin_until = now + settings.rejoin_seconds if expected else now
        self._reported: tuple[int, int] | None = None
        self.ready: dict[str, Participant] = {}

    def wake_at(self) -> float | None:
        """When waiting for expected devices ends; None if nobody is waited for."""
        return self._rejoin_until if self._missing() else None

    def enough(self, now: float, effects: list[Effect]) -> bool:
        """Whether a round may open now; if not, says so once in ``effects``."""
        if now >= self._rejoin_until:
            self._expected = frozenset()
        wanted = max(self._settings.min_devices, len(self._missing()) + len(self.ready))
        if len(self.ready) >= wanted:
            self._expected, self._reported = frozenset(), None
            return True
        if self._reported != (len(self.ready), wanted):
            self._reported = (len(self.ready), wanted)
            effects.append(StillWaiting(len(self.ready), wanted))
        return False

    def draw(self, candidates: Iterable[str], size: int, round: int) -> tuple[str, ...]:
        """So many of these ready devices (all if ``size`` is 0), the same in every life of the coordinator."""
        depths = {device: self.ready[device].depth for device in candidates}
        return cohort(depths, size, seed=self._seed, round=round, preference=self._settings.preference(depths, size))

    def _missing(self) -> frozenset[str]:
        return self._expected - self.ready.keys()
