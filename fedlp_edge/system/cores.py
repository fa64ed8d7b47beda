"""This module counts the processor cores that this process may use, which in a container are fewer than there are."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Returns the number of cores that this process may use; of all where the system binds no process to cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
