"""This module counts the other device agents on this machine, so that agents share its cores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import psutil

_COMMAND = "fedlp-agent"
_MODULE = "device_agent"


def other_agents() -> int:
    """Returns the number of other device agents on this machine whose processes this user may see."""
    own = os.getpid()
    try:
        return count_agents(
            process.info["cmdline"] or ()
            for process in psutil.process_iter(["cmdline"])
            if process.pid != own  # the command line of a process that ends meanwhile is None
        )
    except (OSError, ValueError, LookupError, psutil.Error):  # where /proc shows them only in part
        return 0


def count_agents(commands: Iterable[Sequence[str]]) -> int:
    """Counts the command lines that are those of device agents.

    >>> count_agents([["python", "/usr/bin/fedlp-agent", "--fleet", "shop"], ["vi", "fedlp-agent.service"]])
    1
    """
    return sum(_is_agent(command) for command in commands)


def _is_agent(command: Sequence[str]) -> bool:
    head = list(command[:4])
    if any(PurePath(word).name.removesuffix(".exe") == _COMMAND for word in head[:2]):
        return True
    return "-m" in head[:3] and _MODULE in head[head.index("-m") + 1 : head.index("-m") + 2]
