"""This module starts a child with a session of its own, and ends whatever is left of the session."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any


def own_session() -> dict[str, Any]:
    """Returns arguments for ``subprocess.Popen``: the child has its own session, and hears of no Ctrl-C."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kills the processes that are left in a child's session, such as the worker of a killed agent.

    Windows has no sessions in this sense. There the child alone is killed; a worker ends when its input does.
    """
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
