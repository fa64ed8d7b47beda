"""Limits that brokers never announced, kept in the machine's cache: the next process need not lose a connection again.

A limit may be raised in the meantime, and a slow link may have looked like one. So what is kept is forgotten after a
month, and ``fedlp doctor broker`` puts what it measures in its place.
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
    """What is kept: the longest packet in bytes, 0 for no limit, and when that was found out (seconds since 1970)."""

    packet: int
    found: float


class RememberedLimits:
    """Longest packets by broker.

    Args:
        directory: where they are kept; None to keep nothing.
        now: seconds since 1970.
    """

    def __init__(self, directory: Path | None, now: Callable[[], float] = time.time) -> None:
        self._cache = MachineCache(directory, _Learned)
        self._now = now

    def packet(self, host: str, port: int) -> int | None:
        """Bytes of the longest packet for a broker; None if no limit is known, or only one from long ago."""
        learned = self._cache.read(_key(host, port))
        if learned is None or learned.packet <= 0 or not 0 <= self._now() - learned.found < KEPT_SECONDS:
            return None
        return learned.packet

    def keep(self, host: str, port: int, packet: int | None) -> None:
        """Keeps what was found out; None for a broker without a limit."""
        self._cache.write(_key(host, port), _Learned(packet or 0, self._now()))


def remembered_limits() -> RememberedLimits:
    """Those of this machine and user."""
    return RememberedLimits(cache_directory("brokers"))


def _key(host: str, port: int) -> str:
    return f"{hashlib.sha256(host.encode()).hexdigest()[:16]}-{port}"
