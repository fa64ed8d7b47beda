"""Decides which devices still get their final model, and how long each is waited for; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from coordinator.limits import LIMITS


@dataclass
class _Fetching:
    """
    Attributes:
        missing: Chunks that it still asked for last, by unit.
    """

    patience: float
    heard_at: float
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def until(self) -> float:
        return self.heard_at + self.patience


class Handover:
    """The devices that are downloading their final model or are expected to."""

    def __init__(self) -> None:
        self._fetching: dict[str, _Fetching] = {}
        self._absent: set[str] = set()
        self._absent_until = 0.0

    @property
    def done(self) -> bool:
        """Whether no device is waited for."""
        return not self._fetching and not self._absent

    @property
    def absent(self) -> frozenset[str]:
        """The devices that are offline and may come back."""
        return frozenset(self._absent)

    def await_return(self, devices: Iterable[str], until: float) -> None:
        """Waits for devices that are offline, until they are online or the time has come."""
        self._absent, self._absent_until = set(devices), until

    def reconnected(self, now: float) -> None:
        """Gives every device its time anew: nobody could be heard while the broker was away."""
        for entry in self._fetching.values():
            entry.heard_at = now
        self._absent_until = max(self._absent_until, now + LIMITS.return_seconds)

    def noticed(self, device: str, now: float) -> None:
        """Notes that a device is online, which has to report Ready before it can be told of its model."""
        if device in self._absent:
            self._absent.remove(device)
            self._fetching[device] = _Fetching(LIMITS.rebuild_seconds, now)

    def expect(self, device: str, now: float, *, chunk_seconds: float = 0.0) -> None:
        """Notes that a device was told of its model; one that downloads already keeps its place.

        Args:
            device: Id of the device.
            now: Time, in seconds of the clock of the service.
            chunk_seconds: Seconds that one chunk takes on its link, as far as is known.
        """
        self._absent.discard(device)
        patience = min(max(LIMITS.fetch_seconds, LIMITS.fetch_chunks * chunk_seconds), LIMITS.most_fetch_seconds)
        self._fetching.setdefault(device, _Fetching(patience, now)).heard_at = now

    def heard(self, device: str, now: float) -> None:
        """Notes that a device has received more, or that its connection changed."""
        entry = self._fetching.get(device)
        if entry is not None:
            entry.patience = min(
                max(entry.patience, LIMITS.fetch_gaps * (now - entry.heard_at)), LIMITS.most_fetch_seconds
            )
            entry.heard_at = now

    def asked(self, device: str, unit: str, missing: int, now: float) -> None:
        """Notes the number of chunks that a device requests of a unit; an equal request again is no progress."""
        entry = self._fetching.get(device)
        if entry is not None and missing < entry.missing.get(unit, missing + 1):
            entry.missing[unit] = missing
            self.heard(device, now)

    def ended(self, device: str) -> bool:
        """Stops waiting for a device that is done; returns whether it was waited for."""
        self._absent.discard(device)
        return self._fetching.pop(device, None) is not None

    def given_up(self, now: float) -> list[str]:
        """Returns the devices that have been silent or away for too long, each once."""
        away: list[str] = []
        if now >= self._absent_until:
            away, self._absent = sorted(self._absent), set()
        silent = [device for device, entry in self._fetching.items() if entry.until <= now]
        for device in silent:
            del self._fetching[device]
        return [*away, *silent]
