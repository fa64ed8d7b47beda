"""Control groups that limit memory, of whichever version this machine has, for those who may make them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

VERSION_1 = Path("/sys/fs/cgroup/memory")
VERSION_2 = Path("/sys/fs/cgroup")


class MemoryGroup:
    """One group.

    Args:
        directory: of the group, already made.
        version: 1 or 2.
    """

    def __init__(self, directory: Path, version: int) -> None:
        self._directory = directory
        self._limit = directory / ("memory.limit_in_bytes" if version == 1 else "memory.max")
        self._usage = directory / ("memory.usage_in_bytes" if version == 1 else "memory.current")
        self._inactive = "total_inactive_file" if version == 1 else "inactive_file"

    def limit(self, nbytes: int) -> None:
        """Sets what the group may use from now on."""
        self._limit.write_text(str(nbytes))

    def add(self, pid: int) -> None:
        """Takes a process in; what it has already stays with its old group."""
        (self._directory / "cgroup.procs").write_text(str(pid))

    def command(self, command: Sequence[str]) -> list[str]:
        """A command that is in the group from its start."""
        return ["/bin/sh", "-c", f'echo $$ > "{self._directory}/cgroup.procs" && exec "$@"', "sh", *command]

    @property
    def used(self) -> int:
        """Bytes, without files that the kernel would give up."""
        lines = (line.split() for line in (self._directory / "memory.stat").read_text().splitlines())
        inactive = next((int(value) for name, value in lines if name == self._inactive), 0)
        return int(self._usage.read_text()) - inactive

    @property
    def kills(self) -> int:
        """Processes that the kernel killed in it for memory."""
        events = self._directory / "memory.events"
        text = (events if events.exists() else self._directory / "memory.oom_control").read_text()
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def why_not() -> str:
    """Why no group can be made here; empty if one can."""
    try:
        with memory_group("probe"):
            return ""
    except OSError as error:
        return f"no memory control group can be made: {error}"


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[MemoryGroup]:
    """A new group without a limit; afterwards it is taken away, when its processes have ended.

    Raises:
        OSError: this user or this machine cannot have one.
    """
    version = 1 if (VERSION_1 / "memory.limit_in_bytes").exists() or VERSION_1.exists() else 2
    directory = (VERSION_1 if version == 1 else VERSION_2) / f"fedlp-{os.getpid()}-{name}"
    directory.mkdir()
    try:
        if not (directory / ("memory.limit_in_bytes" if version == 1 else "memory.max")).exists():
            raise OSError(f"{directory.parent} does not hand its memory controller on")
        yield MemoryGroup(directory, version)
    finally:
        _remove(directory)


def _remove(directory: Path) -> None:
    """A group whose last process has just ended may be busy for a moment."""
    for _ in range(100):
        try:
            directory.rmdir()
            return
        except OSError:
            time.sleep(0.05)
