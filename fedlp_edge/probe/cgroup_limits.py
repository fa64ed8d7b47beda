"""What the control group of this process leaves it: psutil sees the machine, not the container.

Pure functions over a given root path, so that they are tested on small trees of files. Both hierarchies are read:
version 2 (one tree) and version 1 (one tree per controller), as older boards still boot with the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.system.cgroups import AGENT_PREFIX, levels, read_statistic, read_text

_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a huge number just below 2**63."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The tightest limits between this process and the root; ``None`` where there is no limit.

    Attributes:
        memory_total: bytes that the group may use; limits that an agent made for its profile are left out.
        memory_available: bytes still free in it; page cache that the kernel would give up counts as free.
        cpus: CPU quota in cores.
        swap_available: bytes of swap that it may still use.
    """

    memory_total: int | None = None
    memory_available: int | None = None
    cpus: float | None = None
    swap_available: int | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """Reads the limits of the calling process below ``root`` (``proc/self/cgroup``, ``sys/fs/cgroup``)."""
    totals: list[int] = []
    available: list[int] = []
    quotas: list[float] = []
    for directory, limit, used in _memory_levels(root):
        # What an agent allows itself is no news of the machine: how large a played board is says its profile.
        if not directory.name.startswith(AGENT_PREFIX):
            totals.append(limit)
        available.append(max(0, limit - used))
    quotas.extend(_cpu_levels(root))
    swap = min(_swap_levels(root), default=None)
    return CgroupLimits(min(totals, default=None), min(available, default=None), min(quotas, default=None), swap)


def _memory_levels(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Directory, limit and use (bytes) of every limited level."""
    for directory in levels(root, ""):
        limits = [_integer(directory / name) for name in ("memory.max", "memory.high")]
        used = _integer(directory / "memory.current")
        for limit in limits:
            if limit is not None and used is not None:
                yield directory, limit, used - read_statistic(directory / "memory.stat", "inactive_file")
    for directory in levels(root, "memory"):
        limit = _integer(directory / "memory.limit_in_bytes")
        used = _integer(directory / "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < _UNLIMITED:
            yield directory, limit, used - read_statistic(directory / "memory.stat", "total_inactive_file")


def _swap_levels(root: Path) -> Iterator[int]:
    for directory in levels(root, ""):
        limit, used = _integer(directory / "memory.swap.max"), _integer(directory / "memory.swap.current")
        if limit is not None and used is not None:
            yield max(0, limit - used)
    for directory in levels(root, "memory"):
        # Version 1 limits the sum of memory and swap.
        both, used = (_integer(directory / f"memory.memsw.{name}_in_bytes") for name in ("limit", "usage"))
        limit = _integer(directory / "memory.limit_in_bytes")
        if both is not None and used is not None and limit is not None and both < _UNLIMITED:
            yield max(0, min(both - limit, both - used))


def _cpu_levels(root: Path) -> Iterator[float]:
    for directory in levels(root, ""):
        quota, _, period = read_text(directory / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)
    for directory in levels(root, "cpu"):
        quota_us, period_us = _integer(directory / "cpu.cfs_quota_us"), _integer(directory / "cpu.cfs_period_us")
        if quota_us is not None and quota_us > 0 and period_us:
            yield quota_us / period_us


def _integer(path: Path) -> int | None:
    """``None`` for a missing file or the word ``max``."""
    text = read_text(path)
    return int(text) if text.lstrip("-").isdigit() else None
