"""This module measures and limits the memory of this process, as far as the system can tell and will.

Linux tells files and anonymous memory apart, keeps a high-water mark that can be reset, and limits the data memory of a
process (``RLIMIT_DATA``). macOS and Windows tell only what is resident, and enforce no such limit.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fedlp_edge.system.portable.c_library import c_function

_STATUS = Path("/proc/self/status")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Returns the resident memory of this process, in bytes."""
    if sys.platform == "linux":
        return int(_STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    return int(psutil.Process(os.getpid()).memory_info().rss)


def anonymous_bytes() -> int:
    """Returns the bytes of resident memory that are no files; all of them where the system does not tell."""
    return _status_bytes("RssAnon") if sys.platform == "linux" else resident_bytes()


def trim_allocator() -> None:
    """Returns freed memory to the system, where the C library has a call for that."""
    trim = c_function("malloc_trim")  # only glibc has it
    if trim is not None:
        trim(0)


def reset_high_water_mark() -> bool:
    """Lets ``high_water_mark`` count from now on; returns whether the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def high_water_mark() -> int:
    """Returns the most bytes that were resident since ``reset_high_water_mark``, which must have succeeded."""
    return _status_bytes("VmHWM")


@contextmanager
def limited_data(more: int) -> Iterator[None]:
    """Limits the data memory of this process to what it has and ``more`` bytes; only Linux enforces that."""
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 - Windows has no such module

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = _status_bytes("VmData") + more
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def limits_data() -> bool:
    """Returns whether ``limited_data`` limits anything on this system."""
    return sys.platform == "linux"


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {key}")
