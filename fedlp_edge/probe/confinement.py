"""This module confines an agent and its worker to their profile with control groups, where the user may create them.

The kernel limits agent and worker together to the memory and the number of processors of the board that they emulate,
whatever threads or child processes they start.

``training_memory_mb`` is enforced by two limits. The first one is the limit on the worker's address space
(``learning/memory/limits.py``): an allocation beyond it raises MemoryError, the worker continues, and the round is
reported as failed. That limit covers neither shared memory nor processes that a user's model or data code starts. They
fall under the second one, the memory limit of the worker's own group, which the worker sets for the duration of a
training, and at which the kernel kills processes.

Groups are created below the group of the process. Their names hold the process id and its start time, so that two
agents do not collide and the next start recognises the groups that a killed agent has left.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fedlp_edge.probe.expected import RUNTIME_MEMORY
from fedlp_edge.probe.host import Host, worker_share
from fedlp_edge.probe.profiles import MEGABYTE, DeviceProfile
from fedlp_edge.system.cgroups import AGENT_PREFIX, ControlGroup, Controller, own_group, read_text
from fedlp_edge.system.portable.memory_use import limits_data

log = logging.getLogger(__name__)

_ENDING_SECONDS = 1.0  # how long a group may take to become empty before it can be removed
_START_TIME_FIELD = 19
"""Index of the start time in ``/proc/PID/stat`` among the fields after the process name."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Holds the limits that control groups set on an agent and its worker; by default there are none.

    Attributes:
        memory: Bytes that agent and worker may allocate together, on top of what the agent holds already; None for no
            limit.
        cores: Processors whose time agent and worker may use together; None for no limit.
        worker: Whether the worker gets a memory group of its own.
        profile: Name of the profile that sets these limits.
    """

    memory: int | None = None
    cores: float | None = None
    worker: bool = False
    profile: str = ""

    @property
    def controllers(self) -> list[Controller]:
        """Control group controllers that these limits need."""
        needed: list[Controller] = []
        if self.memory is not None or self.worker:
            needed.append("memory")
        if self.cores is not None:
            needed.append("cpu")
        return needed


def bounds_of(profile: DeviceProfile, host: Host, threads: int) -> Bounds:
    """Returns the limits that a profile asks for, without those that the machine has anyway.

    A memory limit that would not even hold PyTorch is left out, so that the agent lives and can report that no memory
    is left for training.

    Args:
        profile: Profile whose ``ram_mb``, ``threads`` and ``training_memory_mb`` are used.
        host: The machine as probed before any limit is set.
        threads: Number of training threads, which may exceed the profile's if the owner asks for more.
    """
    memory = worker_share(host, profile)
    if memory is not None and not RUNTIME_MEMORY <= memory < host.memory_total:
        memory = None
    cores = None if profile.threads is None else float(max(profile.threads, threads))
    if cores is not None and cores >= host.cores:
        cores = None
    return Bounds(memory, cores, profile.training_memory is not None, profile.name)


class Confinement:
    """Puts this process and its children into control groups of their own for the length of a ``with`` block.

    The log says which limits are enforced, and which are not and why. Where no group can be created, the block runs
    without limits. The worker has to be started and stopped within the block.

    Args:
        bounds: Limits to enforce.
        root: Directory below which ``proc`` and ``sys/fs/cgroup`` are found.

    Attributes:
        worker: Memory group that the worker has to enter; None if it needs none or none can be created.
    """

    def __init__(self, bounds: Bounds, root: Path = Path("/")) -> None:
        self.worker: ControlGroup | None = None
        self._bounds = bounds
        self._root = root
        self._nested_groups: list[_NestedGroups] = []

    def __enter__(self) -> Self:
        name = f"{AGENT_PREFIX}{os.getpid()}-{_start_time(os.getpid(), self._root) or '0'}"
        parents: dict[ControlGroup | None, list[Controller]] = {}
        for controller in self._bounds.controllers:
            parents.setdefault(own_group(controller, self._root), []).append(controller)
        enforced: list[Controller] = []
        for parent, controllers in parents.items():
            if parent is None:
                self._log_unlimited(controllers, "its controller is not there")
                continue
            remove_leftovers(parent, self._root)
            try:
                groups = _NestedGroups(parent, name, controllers, self._bounds)
            except OSError as error:
                self._log_unlimited(controllers, error.strerror or str(error))
                continue
            self._nested_groups.append(groups)
            self.worker = groups.worker or self.worker
            enforced += controllers
        if enforced:
            log.info("profile %s: control groups see to it that %s", self._bounds.profile, self._description(enforced))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._nested_groups:
            self._nested_groups.pop().leave()

    def _description(self, controllers: Sequence[Controller]) -> str:
        """Describes the limits that groups with these controllers enforce, for the log."""
        shared, parts = [], []
        if "memory" in controllers and self._bounds.memory is not None:
            shared.append(f"{self._bounds.memory / MEGABYTE:.0f} MB")
        if "cpu" in controllers:
            shared.append(f"the time of {self._bounds.cores:g} CPU")
        if shared:
            parts.append(f"agent and worker share {' and '.join(shared)}")
        if "memory" in controllers and self._bounds.worker:
            parts.append("training keeps to its memory")
        return ", ".join(parts)

    def _log_unlimited(self, controllers: Sequence[Controller], reason: str) -> None:
        consequences = {
            "memory": "memory for training is limited by address space"
            if limits_data()
            else "memory for training is planned with, and limited by nothing on this system",
            "cpu": "processor time is limited by nothing but the number of threads",
        }
        said = ", ".join(consequences[controller] for controller in controllers)
        log.info("profile %s: no control group can be made (%s); %s", self._bounds.profile, reason, said)


class _NestedGroups:
    """Creates a limited group below one parent group, with a group for the agent and one for the worker inside it.

    Raises:
        OSError: The groups cannot be created or limited; everything is then as before.
    """

    def __init__(self, parent: ControlGroup, name: str, controllers: Sequence[Controller], bounds: Bounds) -> None:
        self.worker: ControlGroup | None = None
        self._parent = parent
        self._passed_on: list[Controller] = []
        self._passed_to_worker: list[Controller] = []
        self._group = parent.make(name)
        try:
            # In version 2 a group can pass controllers to its children only while no process is in the group itself.
            self._group.make("agent").take()
            self._passed_on = parent.enable_controllers(controllers)
            if bounds.worker and "memory" in controllers:
                self._passed_to_worker = self._group.enable_controllers(["memory"])
                self.worker = self._group.make("worker")
            if bounds.memory is not None and "memory" in controllers:
                self._group.limit_memory(bounds.memory)
            if bounds.cores is not None and "cpu" in controllers:
                self._group.limit_cores(bounds.cores)
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Moves this process back to the parent group and removes the created groups."""
        with contextlib.suppress(OSError):
            self._group.disable_controllers(self._passed_to_worker)
        try:
            # The root group accepts processes while it passes controllers on, and other groups may need them by now.
            self._parent.take()
        except OSError:
            with contextlib.suppress(OSError):
                self._parent.disable_controllers(self._passed_on)
                self._parent.take()
        if not self._group.remove(_ENDING_SECONDS):
            log.debug("%s stays; the next agent that starts here removes it", self._group.directory)


def remove_leftovers(parent: ControlGroup, root: Path = Path("/")) -> None:
    """Removes the groups of agents that have ended without removing them.

    Args:
        parent: Group below which agents create their groups.
        root: Directory below which ``proc`` is found.
    """
    for group in parent.below(AGENT_PREFIX):
        pid, _, start = group.directory.name.removeprefix(AGENT_PREFIX).partition("-")
        # The kernel reuses process ids, but the pair of process id and start time is unique.
        if not (pid.isdigit() and _start_time(int(pid), root) == start):
            group.remove()


def _start_time(pid: int, root: Path) -> str | None:
    """Returns when a process started, in clock ticks since boot; None if there is no such process."""
    fields = read_text(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    return fields[_START_TIME_FIELD] if len(fields) > _START_TIME_FIELD else None
