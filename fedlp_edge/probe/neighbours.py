"""Who else trains on this machine: cores are shared with them, not fought over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import psutil

_COMMAND = "fedlp-agent"
_MODULE = "device_agent"


def other_agents() -> int:
    """Device agents that run on this machine beside this process, as far as its user may see them."""
    own = os.getpid()
    return count_agents(
        process.info["cmdline"] or ()
        for process in psutil.process_iter(["cmdline"])
        if process.pid != own  # who ends in the meantime has no command line left
    )


def count_agents(commands: Iterable[Sequence[str]]) -> int:
    """How many of these command lines are those of device agents.

    >>> count_agents([["python", "/usr/bin/fedlp-agent", "--fleet", "shop"], ["vi", "fedlp-agent.service"]])
    1
    """
    return sum(_is_agent(command) for command in commands)


def _is_agent(command: Sequence[str]) -> bool:
    head = list(command[:4])
    if any(PurePath(word).name == _COMMAND for word in head[:2]):
        return True
    return "-m" in head[:3] and _MODULE in head[head.index("-m") + 1 : head.index("-m") + 2]
