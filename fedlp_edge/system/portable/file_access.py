"""This module reads, writes, flushes and renames files where the systems differ.

Windows has neither ``pread`` nor ``pwrite``, translates line ends unless told not to, flushes no directory, and renames
and removes no file that another program has open, as virus scanners and search indexes do for an instant. On macOS
``fsync`` leaves the bytes in the cache of the disk.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PRIVATE = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
"""Flags of ``os.open`` for bytes as they are, in a file that no child process gets."""

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag of ``os.open`` that refuses a symbolic link, where the system can; on Windows an administrator makes them."""

_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.02


if sys.platform == "win32":
    _place_is_mine = threading.Lock()

    def read_at(descriptor: int, count: int, offset: int) -> bytes:
        """Reads at most ``count`` bytes at an offset."""
        with _place_is_mine:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)

    def read_into(descriptor: int, place: memoryview, offset: int) -> int:
        """Fills memory with the bytes at an offset, and returns how many they are; 0 at the end of the file."""
        content = read_at(descriptor, len(place), offset)
        place[: len(content)] = content
        return len(content)

    def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Writes bytes at an offset, and returns how many."""
        with _place_is_mine:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)

else:

    def read_at(descriptor: int, count: int, offset: int) -> bytes:
        """Reads at most ``count`` bytes at an offset."""
        return os.pread(descriptor, count, offset)

    def read_into(descriptor: int, place: memoryview, offset: int) -> int:
        """Fills memory with the bytes at an offset, and returns how many they are; 0 at the end of the file."""
        return os.preadv(descriptor, [place], offset)

    def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Writes bytes at an offset, and returns how many."""
        return os.pwrite(descriptor, data, offset)


def flush_to_disk(descriptor: int) -> None:
    """Returns once what was written to a file, open for writing, survives a power cut.

    Raises:
        OSError: The disk failed.
    """
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - Windows has no such module

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # network shares have no such call
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def flush_directory(directory: Path) -> None:
    """Returns once the names in a directory survive a power cut; Windows writes them down by itself.

    Raises:
        OSError: The disk failed.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def once_free(act: Callable[[], None]) -> None:
    """Renames or removes a file; on Windows it waits for a program that has it open, for two seconds at most.

    Args:
        act: Does it; raises PermissionError while another program has the file.
    """
    until = time.monotonic() + (_PATIENCE_SECONDS if sys.platform == "win32" else 0.0)
    while True:
        try:
            return act()
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(_PAUSE_SECONDS)
