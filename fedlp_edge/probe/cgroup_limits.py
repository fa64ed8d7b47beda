"""This module reads the limits of this process's control group, because psutil sees the machine, not the container.

All functions take the root path, so that tests can use small trees of files. They read both versions of control
groups: version 2 (one tree) and version 1 (one tree per controller), with which older boards still boot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.system.cgroups import AGENT_PREFIX, levels, read_statistic, read_text

_UNLIMITED = 1 << 60
"""Bytes from which a version 1 limit means "no limit"; the kernel writes a number just below 2**63 for that."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Holds the tightest limits on the path from this process's control group to the root group.

    Attributes:
        memory_total: Memory limit in bytes; None if unlimited. Limits that an agent set for its profile do not count.
        memory_available: Memory in bytes that the group may still allocate, with reclaimable page cache counted as
            free; None if unlimited.
        cpus: CPU quota in cores; None if unlimited.
        swap_available: Swap in bytes that the group may still use; None if unlimited.
    """

    memory_total: int | None = None
    memory_available: int | None = None
    cpus: float | None = None
    swap_available: int | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """Reads the limits of the calling process.

    Args:
        root: Directory below which ``proc/self/cgroup`` and ``sys/fs/cgroup`` are read.
    """
    totals: list[int] = []
    available: list[int] = []
    quotas: list[float] = []
    for directory, limit, used in _memory_levels(root):
        # An agent's own limit says nothing about the machine: the size of an emulated board stands in its profile.
        if not directory.name.startswith(AGENT_PREFIX):
            totals.append(limit)
        available.append(max(0, limit - used))
    quotas.extend(_cpu_levels(root))
    swap = min(_swap_levels(root), default=None)
    return CgroupLimits(min(totals, default=None), min(available, default=None), min(quotas, default=None), swap)


def _memory_levels(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Yields directory, memory limit (bytes) and memory in use (bytes) of every group on the path that has a limit."""
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
    """Yields the swap (bytes) that is still available in every group on the path that limits it."""
    for directory in levels(root, ""):
        limit, used = _integer(directory / "memory.swap.max"), _integer(directory / "memory.swap.current")
        if limit is not None and used is not None:
            yield max(0, limit - used)
    for directory in levels(root, "memory"):
        # Version 1 has no limit for swap alone, only one for the sum of memory and swap.
        both, used = (_integer(directory / f"memory.memsw.{name}_in_bytes") for name in ("limit", "usage"))
        limit = _integer(directory / "memory.limit_in_bytes")
        if both is not None and used is not None and limit is not None and both < _UNLIMITED:
            yield max(0, min(both - limit, both - used))


def _cpu_levels(root: Path) -> Iterator[float]:
    """Yields the CPU quota (cores) of every group on the path that has one."""
    for directory in levels(root, ""):
        quota, _, period = read_text(directory / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)
    for directory in levels(root, "cpu"):
        quota_us, period_us = _integer(directory / "cpu.cfs_quota_us"), _integer(directory / "cpu.cfs_period_us")
        if quota_us is not None and quota_us > 0 and period_us:
            yield quota_us / period_us


def _integer(path: Path) -> int | None:
    """Reads a whole number from a file; None if the file is missing or says ``max``."""
    text = read_text(path)
    return int(text) if text.lstrip("-").isdigit() else None
