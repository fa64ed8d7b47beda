"""Who still waits for a final model, and for how long it is waited for: as long as something moves. Pure."""

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
    """The devices that are fetching what is theirs."""

    def __init__(self) -> None:
        self._fetching: dict[str, _Fetching] = {}
        self._absent: set[str] = set()
        self._absent_until = 0.0

    @property
    def done(self) -> bool:
        """Whether nobody is waited for."""
        return not self._fetching and not self._absent

    def await_return(self, devices: Iterable[str], until: float) -> None:
        """Waits for devices that are not there (yet), until they are or the time has come."""
        self._absent, self._absent_until = set(devices), until

    def noticed(self, device: str, now: float) -> None:
        """A device is back, and has to make itself ready before it can be told anything."""
        if device in self._absent:
            self._absent.remove(device)
            self._fetching[device] = _Fetching(LIMITS.rebuild_seconds, now)

    def expect(self, device: str, now: float, *, chunk_seconds: float = 0.0) -> None:
        """A device was told what there is; one that already fetches keeps its place.

        Args:
            device: Id of the device.
            now: Time, in seconds of the clock of the service.
            chunk_seconds: Seconds that one chunk takes on its link, as far as is known.
        """
        self._absent.discard(device)
        patience = min(max(LIMITS.fetch_seconds, LIMITS.fetch_chunks * chunk_seconds), LIMITS.most_fetch_seconds)
        self._fetching.setdefault(device, _Fetching(patience, now)).heard_at = now

    def heard(self, device: str, now: float) -> None:
        """A device has got more, or its connection changed."""
        entry = self._fetching.get(device)
        if entry is not None:
            entry.patience = min(
                max(entry.patience, LIMITS.fetch_gaps * (now - entry.heard_at)), LIMITS.most_fetch_seconds
            )
            entry.heard_at = now

    def asked(self, device: str, unit: str, missing: int, now: float) -> None:
        """A device asks for this many chunks of a unit; to ask for the same again and again is no progress."""
        entry = self._fetching.get(device)
        if entry is not None and missing < entry.missing.get(unit, missing + 1):
            entry.missing[unit] = missing
            self.heard(device, now)

    def ended(self, device: str) -> bool:
        """A device has what it wants, or will not get it; returns whether it was waited for."""
        self._absent.discard(device)
        return self._fetching.pop(device, None) is not None

    def given_up(self, now: float) -> list[str]:
        """The devices that were silent for too long by now, each once."""
        if now >= self._absent_until:
            self._absent.clear()
        silent = [device for device, entry in self._fetching.items() if entry.until <= now]
        for device in silent:
            del self._fetching[device]
        return silent
