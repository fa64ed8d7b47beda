"""This module asks the system how much memory there is, also where /proc is hidden."""

from __future__ import annotations

import os
import warnings

import psutil


def system_memory() -> tuple[int, int]:
    """Returns total and available bytes of memory.

    Where /proc tells nothing of it (``ProcSubset=pid`` of systemd, a chroot), the C library does, which counts no
    memory as available that caches could give back.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where a container tells a part of it alone
            memory = psutil.virtual_memory()
    except (OSError, ValueError, LookupError, psutil.Error):
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    return int(memory.total), int(memory.available)
