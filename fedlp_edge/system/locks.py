"""This module takes lock files, so that one process at a time uses a directory; the system frees them at its end."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from fedlp_edge.system.portable.file_access import NO_LINK, PRIVATE

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_SECONDS = 0.02
_HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, 0})
"""What systems say of a lock that another process has: Windows the third, and Wine nothing."""
_BEHIND_ALL_BYTES = 1 << 30
"""Offset of the byte that is locked on Windows, where nobody else may read a locked byte."""


def lock_file(path: Path, patience_seconds: float = 0.0) -> BinaryIO | None:
    """Takes a lock file, made if missing, until the file is closed or this process ends.

    A symbolic link is refused, since it may point to a file of another user.

    Args:
        path: Lock file.
        patience_seconds: Seconds to wait for another process that holds the lock.

    Returns:
        The open file; None if another process still holds it.

    Raises:
        OSError: The path is a link, or the file cannot be made.
    """
    until = time.monotonic() + patience_seconds
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | NO_LINK | PRIVATE, 0o600), "wb")
    try:
        while not _take(file.fileno()):
            if time.monotonic() >= until:
                file.close()
                return None
            time.sleep(_POLL_SECONDS)
    except OSError:
        file.close()
        raise
    return file


def is_held(path: Path) -> bool:
    """Returns whether a process of this machine holds a lock file; False if the file is missing or may not be read."""
    try:
        file = os.open(path, os.O_RDONLY | NO_LINK | PRIVATE)
    except OSError:
        return False
    try:
        return not _take(file, shared=True)
    finally:
        os.close(file)


def _take(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file unless another process holds it; the system unlocks it when it is closed."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _BEHIND_ALL_BYTES, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True
