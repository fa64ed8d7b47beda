"""Lock files: only one process at a time works in a directory, and the kernel frees it however that process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

_POLL_SECONDS = 0.02


def lock_file(path: Path, patience_seconds: float = 0.0) -> BinaryIO | None:
    """Takes a lock file, made if missing, until the file is closed or this process ends.

    A link is refused, since it would name somebody else's file.

    Args:
        path: of the lock file.
        patience_seconds: how long to wait for another process that holds it.

    Returns:
        The open file; None if another process still holds it.

    Raises:
        OSError: it is a link, or cannot be made.
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
