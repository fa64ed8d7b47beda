"""Keeps an agent and its worker to their profile with control groups, where this user may make them.

A profile that only lowered what is reported would be a promise. The kernel holds agent and worker together to the
memory of the board that they play, and to its number of processors, whatever threads or children they start.

``training_memory_mb`` has two lines. First comes the limit on the worker's address space
(``learning/memory/limits.py``): whoever goes beyond it gets a MemoryError, the worker lives on, and the round is
reported as failed. Shared memory, and processes that somebody's model or data code starts, that limit does not see;
they meet the limit of the worker's own group, which the worker sets for the length of a training, and at which the
kernel kills.

Groups are made below the one that the process is in, under a name that says whose they are, so two agents do not
collide and what a killed one has left is known at the next start.
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

log = logging.getLogger(__name__)

_ENDING_SECONDS = 1.0
_START_TIME_FIELD = 19
"""Of ``/proc/PID/stat``, counted behind the name."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What agent and worker are to be held to; the default holds them to nothing.

    Attributes:
        memory: bytes that both may take together, on top of what the agent has already.
        cores: processors whose time both may take together.
        worker: whether the worker gets a memory group of its own.
        profile: whose bounds these are.
    """

    memory: int | None = None
    cores: float | None = None
    worker: bool = False
    profile: str = ""

    @property
    def controllers(self) -> list[Controller]:
        """Those that are needed."""
        needed: list[Controller] = []
        if self.memory is not None or self.worker:
            needed.append("memory")
        if self.cores is not None:
            needed.append("cpu")
        return needed


def bounds_of(profile: DeviceProfile, host: Host, threads: int) -> Bounds:
    """What a profile asks for that the machine would not do by itself.

    Memory that would not even hold PyTorch is not limited: the agent is to live and report that nothing is left.

    Args:
        profile: its ``ram_mb``, ``threads`` and ``training_memory_mb`` count.
        host: as it is without bounds.
        threads: that training will use, which may be more than the profile's if the owner asks for it.
    """
    memory = worker_share(host, profile)
    if memory is not None and not RUNTIME_MEMORY <= memory < host.memory_total:
        memory = None
    cores = None if profile.threads is None else float(max(profile.threads, threads))
    if cores is not None and cores >= host.cores:
        cores = None
    return Bounds(memory, cores, profile.training_memory is not None, profile.name)


class Confinement:
    """This process and its children in groups of their own, within a ``with`` block.

    What is held to and what is not, and why, is logged; where no group can be made, the block goes on without. The
    worker has to be started and stopped within the block.

    Args:
        bounds: what to hold them to.
        root: below which ``proc`` and ``sys/fs/cgroup`` are found.

    Attributes:
        worker: the memory group that the worker is to enter, if it is to have one and can.
    """

    def __init__(self, bounds: Bounds, root: Path = Path("/")) -> None:
        self.worker: ControlGroup | None = None
        self._bounds = bounds
        self._root = root
        self._stays: list[_Stay] = []

    def __enter__(self) -> Self:
        name = f"{AGENT_PREFIX}{os.getpid()}-{_start_time(os.getpid(), self._root) or '0'}"
        parents: dict[ControlGroup | None, list[Controller]] = {}
        for controller in self._bounds.controllers:
            parents.setdefault(own_group(controller, self._root), []).append(controller)
        held: list[Controller] = []
        for parent, controllers in parents.items():
            if parent is None:
                self._go_without(controllers, "its controller is not there")
                continue
            remove_leftovers(parent, self._root)
            try:
                stay = _Stay(parent, name, controllers, self._bounds)
            except OSError as error:
                self._go_without(controllers, error.strerror or str(error))
                continue
            self._stays.append(stay)
            self.worker = stay.worker or self.worker
            held += controllers
        if held:
            log.info("profile %s: control groups see to it that %s", self._bounds.profile, self._held(held))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._stays:
            self._stays.pop().leave()

    def _held(self, controllers: Sequence[Controller]) -> str:
        """What groups with these controllers do, in words."""
        shared, said = [], []
        if "memory" in controllers and self._bounds.memory is not None:
            shared.append(f"{self._bounds.memory / MEGABYTE:.0f} MB")
        if "cpu" in controllers:
            shared.append(f"the time of {self._bounds.cores:g} CPU")
        if shared:
            said.append(f"agent and worker share {' and '.join(shared)}")
        if "memory" in controllers and self._bounds.worker:
            said.append("training keeps to its memory")
        return ", ".join(said)

    def _go_without(self, controllers: Sequence[Controller], reason: str) -> None:
        words = {
            "memory": "memory for training is limited by address space",
            "cpu": "processor time is limited by nothing but the number of threads",
        }
        said = ", ".join(words[controller] for controller in controllers)
        log.info("profile %s: no control group can be made (%s); %s", self._bounds.profile, reason, said)


class _Stay:
    """This process in groups below one parent: one that is limited, and in it one for the agent and one for the worker.

    Raises:
        OSError: it cannot be; everything is then as before.
    """

    def __init__(self, parent: ControlGroup, name: str, controllers: Sequence[Controller], bounds: Bounds) -> None:
        self.worker: ControlGroup | None = None
        self._parent = parent
        self._handed: list[Controller] = []
        self._nested: list[Controller] = []
        self._group = parent.make(name)
        try:
            # In version 2 the parent can hand nothing on before this process has left it; others must not be there.
            self._group.make("agent").take()
            self._handed = parent.hand_on(controllers)
            if bounds.worker and "memory" in controllers:
                self._nested = self._group.hand_on(["memory"])
                self.worker = self._group.make("worker")
            if bounds.memory is not None and "memory" in controllers:
                self._group.limit_memory(bounds.memory)
            if bounds.cores is not None and "cpu" in controllers:
                self._group.limit_cores(bounds.cores)
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Back to the parent, and the groups away."""
        with contextlib.suppress(OSError):
            self._group.hold_back(self._nested)
        try:
            # The root of all groups takes processes in as it is, and others may by now need what it hands on.
            self._parent.take()
        except OSError:
            with contextlib.suppress(OSError):
                self._parent.hold_back(self._handed)
                self._parent.take()
        if not self._group.remove(_ENDING_SECONDS):
            log.debug("%s stays; the next agent that starts here removes it", self._group.directory)


def remove_leftovers(parent: ControlGroup, root: Path = Path("/")) -> None:
    """Removes the groups of agents that have ended without doing so."""
    for group in parent.below(AGENT_PREFIX):
        pid, _, start = group.directory.name.removeprefix(AGENT_PREFIX).partition("-")
        # A process number is used again; together with the moment of its start it is not.
        if not (pid.isdigit() and _start_time(int(pid), root) == start):
            group.remove()


def _start_time(pid: int, root: Path) -> str | None:
    """When a process started, in ticks since the machine did; None if there is no such process."""
    fields = read_text(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    return fields[_START_TIME_FIELD] if len(fields) > _START_TIME_FIELD else None
