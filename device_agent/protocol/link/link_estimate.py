"""An estimate of a device's link, and what follows for chunks, windows and plans."""

from __future__ import annotations

import math
from dataclasses import dataclass

from device_agent.limits import LIMITS
from fedlp_edge.wire.chunks import CHUNK_SECONDS, DEFAULT_CHUNK_BYTES, chunk_bytes_for_link

_LIMITS = LIMITS.link


def observed_rate(nbytes: int, seconds: float) -> float | None:
    """Bytes per second that a link has shown; None if it had no time for that, or nothing came at all."""
    return nbytes / seconds if nbytes and seconds >= _LIMITS.least_seconds else None


def carried_rate(nbytes: int, seconds: float) -> float | None:
    """Bytes per second that a link has carried at the least; None if nothing came.

    What is over in a moment says that the link is fast, and not how fast: it counts as if it had taken longer.
    """
    return nbytes / max(seconds, _LIMITS.least_seconds) if nbytes else None


@dataclass(frozen=True)
class LinkEstimate:
    """The link between a device and its broker.

    Attributes:
        rate: Bytes per second in the slower direction; infinite if it is faster than can be measured, None if unknown.
        latency: Seconds to the broker and back.
    """

    rate: float | None = None
    latency: float = 0.0

    def seconds(self, nbytes: int) -> float:
        """That a message of so many bytes takes, and its answer; 0 if nothing is known."""
        return self.latency + (nbytes / self.rate if self.rate else 0.0)

    @property
    def is_slow(self) -> bool:
        """Whether a chunk of the usual size would take it longer than it should."""
        return self.rate is not None and self.rate * CHUNK_SECONDS < DEFAULT_CHUNK_BYTES

    def falls_short(self, rate: float) -> bool:
        """Whether a rate that was shown is less than was thought, by more than measurements differ."""
        return self.rate is None or rate < _LIMITS.reported_share * self.rate

    def chunk_bytes(self, most: int) -> int:
        """Payload bytes of a chunk that suit the link, ``most`` at the most."""
        return chunk_bytes_for_link(most, self.rate)

    def window(self, chunk_bytes: int, most: int) -> int:
        """How many chunks may be on their way at once, ``most`` at the most."""
        if self.rate is None or math.isinf(self.rate):
            return most
        wanted = math.ceil((_LIMITS.ahead_seconds + self.latency) * self.rate / chunk_bytes)
        return min(most, max(_LIMITS.least_ahead, wanted))


class MissedRounds:
    """Rounds that a device missed by its link: one may be bad luck, a second one soon after says what the link is."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._good = 0

    def missed(self, rate: float) -> float | None:
        """A round was missed, in which the link carried so many bytes per second.

        Returns:
            The rate to plan with from now on: the better one of two rounds; None after a single one.
        """
        self._good = 0
        self._rates.append(rate)
        if len(self._rates) < _LIMITS.short_rounds:
            return None
        best = max(self._rates)
        self._rates.clear()
        return best

    def done(self) -> None:
        """A round was done in time."""
        self._good += 1
        if self._good >= _LIMITS.good_rounds:
            self._rates.clear()


class Improvements:
    """Rounds that were carried faster than the rate that is planned with: after enough of them a better one is told."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._needed = _LIMITS.rise_rounds

    def done(self, planned: float | None, down: float | None, up: float | None) -> float | None:
        """A round was done in time.

        Args:
            planned: Bytes per second that the coordinator plans with; None, or infinite, if the link is no obstacle.
            down: Bytes per second that the link carried of the model at the least; None if that is not known.
            up: Bytes per second that it carried of the update at the least; None if that is not known.

        Returns:
            The rate to plan with from now on; None to stay with what there is.
        """
        if planned is None or math.isinf(planned) or down is None or up is None:
            return None
        rate = min(down, up)
        if rate < _LIMITS.rise_factor * planned:
            self._rates.clear()
            return None
        self._rates.append(rate)
        if len(self._rates) < self._needed:
            return None
        worst = min(self._rates)
        self._rates.clear()
        return min(worst, _LIMITS.most_rise * planned)

    def fell(self) -> None:
        """The link turned out to be slower than was thought."""
        self._rates.clear()
        self._needed = min(2 * self._needed, _LIMITS.most_rise_rounds)
