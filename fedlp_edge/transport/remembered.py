"""This module stores unannounced packet limits of brokers, so that the next process need not lose connections again.

A limit may be raised in the meantime, and a slow link may have looked like a limit. So a stored limit expires after a
month, and ``fedlp doctor broker`` replaces it by what it measures.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from fedlp_edge.system.machine_cache import MachineCache, cache_directory

KEPT_SECONDS = 30 * 86400.0


class _Learned(msgspec.Struct, frozen=True):
    """One stored limit: the longest packet in bytes (0 for no limit) and its time in seconds since 1970."""

    packet: int
    found: float


class RememberedLimits:
    """The longest packet of each broker, stored in a directory.

    Args:
        directory: Directory of the files; None to store nothing.
        now: Function that returns the seconds since 1970.
    """

    def __init__(self, directory: Path | None, now: Callable[[], float] = time.time) -> None:
        self._cache = MachineCache(directory, _Learned)
        self._now = now

    def packet(self, host: str, port: int) -> int | None:
        """Returns the bytes of the longest packet for a broker; None if no limit is known, or only an expired one."""
        learned = self._cache.read(_key(host, port))
        if learned is None or learned.packet <= 0 or not 0 <= self._now() - learned.found < KEPT_SECONDS:
            return None
        return learned.packet

    def keep(self, host: str, port: int, packet: int | None) -> None:
        """Stores the longest packet of a broker in bytes; None for a broker without a limit."""
        self._cache.write(_key(host, port), _Learned(packet or 0, self._now()))


def remembered_limits() -> RememberedLimits:
    """Returns the stored limits of this machine and user."""
    return RememberedLimits(cache_directory("brokers"))


def _key(host: str, port: int) -> str:
    return f"{hashlib.sha256(host.encode()).hexdigest()[:16]}-{port}"
