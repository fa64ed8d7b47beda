"""Estimates a device's link, and derives chunk sizes, windows and the rate for plans."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from device_agent.limits import LIMITS
from fedlp_edge.wire.chunks import CHUNK_SECONDS, DEFAULT_CHUNK_BYTES, chunk_bytes_for_link

_LIMITS = LIMITS.link


def observed_rate(nbytes: int, seconds: float) -> float | None:
    """Returns the bytes per second that a link has shown; None if it had no time for that, or nothing came at all."""
    return nbytes / seconds if nbytes and seconds >= _LIMITS.least_seconds else None


def carried_rate(nbytes: int, seconds: float) -> float | None:
    """Returns the bytes per second that a link has carried at the least; None if nothing came.

    What is over in a moment says that the link is fast, and not how fast: it counts as if it had taken longer.
    """
    return nbytes / max(seconds, _LIMITS.least_seconds) if nbytes else None


@dataclass(frozen=True)
class LinkEstimate:
    """The estimated rate and latency of the link between a device and its broker.

    Attributes:
        rate: Bytes per second in the slower direction; infinite if it is faster than can be measured, None if unknown.
        latency: Seconds to the broker and back.
        carried: Bytes per second that the link carried of the last update, at the least, by which the next one is cut
            while the rate is unknown; None before the first update.
    """

    rate: float | None = None
    latency: float = 0.0
    carried: float | None = None

    def seconds(self, nbytes: int) -> float:
        """Returns the seconds that a message of so many bytes and its answer take; 0 if nothing is known."""
        return self.latency + (nbytes / self.rate if self.rate else 0.0)

    @property
    def is_slow(self) -> bool:
        """Whether a chunk of the usual size would take it longer than it should."""
        return self.rate is not None and self.rate * CHUNK_SECONDS < DEFAULT_CHUNK_BYTES

    def falls_short(self, rate: float) -> bool:
        """Returns whether a rate that was shown is less than the estimate, by more than measurements differ."""
        return self.rate is None or rate < _LIMITS.reported_share * self.rate

    def chunk_bytes(self, most: int) -> int:
        """Returns the payload bytes of a chunk that suit the link, ``most`` at the most."""
        return chunk_bytes_for_link(most, self.carried if self.rate is None else self.rate)

    def window(self, chunk_bytes: int, most: int) -> int:
        """Returns how many chunks may be in transit at once, ``most`` at the most."""
        if self.rate is None or math.isinf(self.rate):
            return most
        wanted = math.ceil((_LIMITS.ahead_seconds + self.latency) * self.rate / chunk_bytes)
        return min(most, max(_LIMITS.least_ahead, wanted))


@dataclass
class LinkState:
    """What is known of a device's link at present, shared by everything that sends or receives over it.

    The estimate is for all to read; what rounds show of the link is left here until ``LinkMonitor`` makes use of it.

    Attributes:
        estimate: Estimate of the link's rate and latency.
        missed_rates: Bytes per second that the link carried in rounds that ended before a model or an update had got
            through.
        carried_down: Bytes per second that it carried at the least of what the latest training starts from; None if
            that is not known.
        carried_up: Bytes per second that it carried at the least of the latest update that was accepted; None if that
            is not known.
    """

    estimate: LinkEstimate = field(default_factory=LinkEstimate)
    missed_rates: list[float] = field(default_factory=list)
    carried_down: float | None = None
    carried_up: float | None = None

    def missed(self, rate: float | None) -> None:
        """Notes that a round was missed, in which the link carried so many bytes per second, if that is known."""
        if rate is not None:
            self.missed_rates.append(rate)

    def take_missed_rate(self) -> float | None:
        """Returns the least rate of the rounds that were missed since the last call; None if there was none."""
        least = min(self.missed_rates, default=None)
        self.missed_rates.clear()
        return least

    def take_carried(self) -> tuple[float | None, float | None]:
        """Returns what the link carried of a round, down and up, and forgets it: it counts for one round."""
        carried = (self.carried_down, self.carried_up)
        self.carried_down = self.carried_up = None
        return carried


class MissedRounds:
    """The rounds that a device missed by its link: one may be chance, a second one soon after shows the rate."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._good = 0

    def missed(self, rate: float) -> float | None:
        """Takes a missed round, in which the link carried so many bytes per second.

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
        """Notes that a round was done in time."""
        self._good += 1
        if self._good >= _LIMITS.good_rounds:
            self._rates.clear()


class Improvements:
    """The rounds that were faster than the planned rate; after enough of them a better rate is reported."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._needed = _LIMITS.rise_rounds

    def done(self, planned: float | None, down: float | None, up: float | None) -> float | None:
        """Notes that a round was done in time.

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
        """Notes that the link is slower than was estimated."""
        self._rates.clear()
        self._needed = min(2 * self._needed, _LIMITS.most_rise_rounds)
