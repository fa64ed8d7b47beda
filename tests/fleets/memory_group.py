"""Control groups that limit memory, of whichever version this machine has, for those who may make them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from fedlp_edge.system.cgroups import ControlGroup, own_group

_ENDING_SECONDS = 5.0


def why_not() -> str:
    """Why no group can be made here; empty if one can."""
    try:
        with memory_group("probe"):
            return ""
    except OSError as error:
        return f"no memory control group can be made: {error}"


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[ControlGroup]:
    """A new group without a limit, below the own one; afterwards it is taken away, when its processes have ended.

    Raises:
        OSError: this user or this machine cannot have one.
    """
    parent = own_group("memory")
    if parent is None:
        raise OSError("this process has no group with the memory controller")
    handed = parent.enable_controllers(["memory"])
    group = parent.make(f"fedlp-test-{os.getpid()}-{name}")
    try:
        yield group
    finally:
        group.remove(_ENDING_SECONDS)
        parent.disable_controllers(handed)


def within(group: ControlGroup, command: Sequence[str]) -> list[str]:
    """A command that is in the group from its start."""
    return ["/bin/sh", "-c", f'echo $$ > "{group.directory}/cgroup.procs" && exec "$@"', "sh", *command]
