"""This module takes lock files, so that one process at a time uses a directory; the kernel frees them at its end."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

_POLL_SECONDS = 0.02


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
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                file.close()
                return None
            time.sleep(_POLL_SECONDS)
        except OSError:
            file.close()
            raise
        else:
            return file


def is_held(path: Path) -> bool:
    """Returns whether a process of this machine holds a lock file; False if the file is missing or may not be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
