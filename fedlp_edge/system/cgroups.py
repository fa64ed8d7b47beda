"""This module reads and makes control groups, by which the kernel counts and limits the resources of processes.

Version 2 has one tree: a group there has the controllers that its parent enables for it, and can enable none for its
own children while processes are in it. Version 1 has one tree per controller. Everything is a function of a root path,
so that tests can use small trees of files.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Version = Literal[1, 2]
Controller = Literal["memory", "cpu"]

AGENT_PREFIX = "fedlp-agent-"
"""Prefix of the names of groups that agents make for themselves, to stay within their profiles."""

_PERIOD_MICROSECONDS = 100_000
_POLL_SECONDS = 0.02
_FIRST_VERSION_FILES: dict[Controller, str] = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us"}


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One control group: of one controller in version 1, of all controllers enabled for it in version 2.

    Every method raises ``OSError`` if the kernel, a read-only mount or missing rights refuse the operation.
    """

    directory: Path
    version: Version

    @classmethod
    def at(cls, directory: Path) -> ControlGroup:
        """Makes the object for the memory group in a directory."""
        return cls(directory, 1 if (directory / _FIRST_VERSION_FILES["memory"]).exists() else 2)

    def make(self, name: str) -> ControlGroup:
        """Makes a group below this one, without limits of its own."""
        child = ControlGroup(self.directory / name, self.version)
        child.directory.mkdir()
        # Old kernels of version 1 count the children of a group only if this is set before the group has children.
        nesting = child.directory / "memory.use_hierarchy"
        if read_text(nesting) == "0":
            nesting.write_text("1")
        return child

    def take(self, pid: int | None = None) -> None:
        """Moves a process, by default this one, into the group; memory that it has already stays with its old group."""
        (self.directory / "cgroup.procs").write_text(str(pid or os.getpid()))

    def limit_memory(self, nbytes: int | None) -> None:
        """Sets the memory limit in bytes, without swap; None removes the limit."""
        if self.version == 2:
            (self.directory / "memory.max").write_text("max" if nbytes is None else str(nbytes))
            _try_to_write(self.directory / "memory.swap.max", "max" if nbytes is None else "0")
            return
        # The kernel refuses a limit of memory plus swap that is below the limit of memory.
        both = self.directory / "memory.memsw.limit_in_bytes"
        _try_to_write(both, "-1")
        (self.directory / _FIRST_VERSION_FILES["memory"]).write_text("-1" if nbytes is None else str(nbytes))
        if nbytes is not None:
            _try_to_write(both, str(nbytes))

    def limit_cores(self, cores: float) -> None:
        """Sets the processor time that the group may use, as a number of cores."""
        quota = int(cores * _PERIOD_MICROSECONDS)
        if self.version == 2:
            (self.directory / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
            return
        (self.directory / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (self.directory / _FIRST_VERSION_FILES["cpu"]).write_text(str(quota))

    @property
    def memory_bytes(self) -> int:
        """Bytes that count against the memory limit, including cached files that the kernel could drop."""
        name = "memory.usage_in_bytes" if self.version == 1 else "memory.current"
        return int((self.directory / name).read_text())

    @property
    def working_set_bytes(self) -> int:
        """Bytes that count against the memory limit, without cached files that the kernel could drop."""
        key = "total_inactive_file" if self.version == 1 else "inactive_file"
        return self.memory_bytes - read_statistic(self.directory / "memory.stat", key)

    @property
    def oom_kills(self) -> int:
        """Number of processes of the group that the kernel killed because memory ran out."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return read_statistic(self.directory / name, "oom_kill")

    def has(self, controller: Controller) -> bool:
        """Returns whether groups below this one can have a controller."""
        if self.version == 1:
            return (self.directory / _FIRST_VERSION_FILES[controller]).exists()
        return controller in read_text(self.directory / "cgroup.controllers").split()

    def enable_controllers(self, controllers: Collection[Controller]) -> list[Controller]:
        """Enables controllers for the groups below this one; in version 2 no process may be in this group.

        Returns:
            Controllers that were not enabled before, for ``disable_controllers``.
        """
        if self.version == 1:
            return []
        missing = sorted(set(controllers) - set(read_text(self._enabled).split()))
        if missing:
            self._enabled.write_text(" ".join(f"+{controller}" for controller in missing))
        return missing

    def disable_controllers(self, controllers: Collection[Controller]) -> None:
        """Disables controllers that ``enable_controllers`` enabled; processes can then be in this group again."""
        if controllers:
            self._enabled.write_text(" ".join(f"-{controller}" for controller in controllers))

    def below(self, prefix: str) -> list[ControlGroup]:
        """Returns the groups directly below this one whose names begin with ``prefix``."""
        found = sorted(path for path in self.directory.glob(f"{prefix}*") if path.is_dir())
        return [ControlGroup(path, self.version) for path in found]

    def remove(self, patience_seconds: float = 0.0) -> bool:
        """Removes the group and all groups below it, if no process is in any of them.

        Args:
            patience_seconds: Seconds to retry, since a group whose last process has just ended may be busy.

        Returns:
            Whether the group is removed.
        """
        until = time.monotonic() + patience_seconds
        while not self._removed():
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    @property
    def _enabled(self) -> Path:
        return self.directory / "cgroup.subtree_control"

    def _removed(self) -> bool:
        for child in self.below(""):
            child._removed()
        try:
            self.directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def own_group(controller: Controller, root: Path = Path("/")) -> ControlGroup | None:
    """Returns the calling process's group below which groups with this controller can be made; None without one."""
    trees: tuple[tuple[str, Version], ...] = ((controller, 1), ("", 2))
    for tree, version in trees:
        directories = list(levels(root, tree))
        if directories and (group := ControlGroup(directories[-1], version)).has(controller):
            return group
    return None


def levels(root: Path, controller: str) -> Iterator[Path]:
    """Yields the group directories from the mount point down to this process; ``controller`` is empty for version 2.

    In a container the path in ``proc/self/cgroup`` may be the host's and not exist; then the mount point itself is the
    container's group.
    """
    own = _own_path(root, controller)
    if own is None:
        return
    directory = root / "sys/fs/cgroup" / controller
    yield directory
    for part in Path(own.lstrip("/")).parts:
        directory = directory / part
        if part == ".." or not directory.is_dir():
            return
        yield directory


def read_text(path: Path) -> str:
    """Reads a file without surrounding white space; empty for a missing file."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def read_statistic(path: Path, key: str) -> int:
    """Reads the number behind a key, as in ``memory.stat``; 0 if the key is missing."""
    for line in read_text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _own_path(root: Path, controller: str) -> str | None:
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "" == controller or (controller and controller in controllers.split(",")):
            return path
    return None


def _try_to_write(path: Path, text: str) -> None:
    """Writes a file that some kernels do not have, such as the limit of swap; errors are ignored."""
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="utf-8")
