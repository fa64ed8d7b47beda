"""What happens when a worker process of a simulation dies: what it took with it is done again, once.

Native code crashes, and the kernel kills processes when memory ends. That takes along the order that the worker was
busy with, and the sums of all updates that it had counted in this round. The engine puts a new worker in its place;
here its updates are computed again, then the order is repeated. Training is deterministic and sums are exact, so the
model is the one that would have come out without the death.

After a crash of native code a device trains as a real one does: in float32, with memory given back at once, from then
on. Whoever only was killed repeats the same thing in the same way. An order that two workers died of ends the
simulation, with one line.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.errors import WorkerError
from fedlp_edge.simulation.engines.base import Engine, failure
from fedlp_edge.simulation.engines.jobs import (
    ChooseCompute,
    CollectSums,
    ComputeChosen,
    DeviceGaveUp,
    DeviceTrained,
    EvaluatePart,
    EvaluatePersonalHead,
    JobFailed,
    Reply,
    SimulationJob,
    SimulationWorkerDied,
    SumsCollected,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.system.processor_info import install_words, processor_name, torch_version

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


def death(code: int) -> SimulationWorkerDied:
    """How a process ended, from its exit code; negative for a signal, as in ``subprocess``."""
    if code >= 0:
        return SimulationWorkerDied(f"ended with exit code {code}", "what it said last stands above")
    name = signal.Signals(-code).name
    if -code in _CRASHES:
        remedy = f"native code of PyTorch {_torch()} crashed on {processor_name()}: {install_words()}"
        return SimulationWorkerDied(f"was ended by {name}", remedy, crashed=True)
    remedy = f"most likely for memory (PyTorch {_torch()}): use fewer workers, or a smaller model or batch size"
    return SimulationWorkerDied(f"was killed by {name}", remedy)


def ended(died: SimulationWorkerDied, during: str) -> WorkerError:
    """What to say where a death ends the simulation."""
    return WorkerError(f"a worker process of the simulation {died.exit}{during}; {died.remedy}")


@dataclass
class _Task:
    """One order on its way through a worker.

    Attributes:
        job: what is to be done.
        again: whether the answer is known already, and only the update is wanted.
        deaths: of workers that were busy with it.
    """

    job: SimulationJob
    again: bool = False
    deaths: int = 0


@dataclass
class _Post:
    """The place of one worker, whichever process fills it.

    Attributes:
        under_way: what it is busy with; None if it is idle.
        waiting: what comes next.
        counted: orders whose updates are in the sums that it holds.
        idle_deaths: of processes that had nothing to do, since the last answer.
    """

    under_way: _Task | None = None
    waiting: deque[_Task] = field(default_factory=deque)
    counted: list[TrainDevice] = field(default_factory=list)
    idle_deaths: int = 0


class RecoveringEngine:
    """An engine in which no worker dies, as far as anybody can see.

    Args:
        engine: says ``SimulationWorkerDied`` once it has put a new worker in the place of one that died.
        tell: is told about each death in a line.
    """

    def __init__(self, engine: Engine, tell: Callable[[str], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._posts = [_Post() for _ in range(engine.workers)]
        self._crashed: set[str] = set()
        self._answers: deque[tuple[int, Reply]] = deque()

    @property
    def workers(self) -> int:
        """See ``Engine.workers``."""
        return self._engine.workers

    def open(
        self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment
    ) -> tuple[Blueprint, dict[str, Array]]:
        """See ``Engine.open``."""
        return self._engine.open(setup, simulation_data, assignment)

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """See ``Engine.publish``."""
        self._engine.publish(version, weights)

    def retire(self, version: int) -> None:
        """See ``Engine.retire``."""
        self._engine.retire(version)

    def submit(self, worker: int, job: SimulationJob) -> None:
        """See ``Engine.submit``."""
        if isinstance(job, TrainDevice) and job.device in self._crashed:
            job = _plain(job)
        post = self._posts[worker]
        post.waiting.append(_Task(job))
        if post.under_way is None:
            self._next(worker)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """See ``Engine.next_reply``; None also when something came that nobody need know of."""
        if self._answers:
            return self._answers.popleft()
        answer = self._engine.next_reply(seconds)
        if answer is None:
            return None
        worker, reply = answer
        if isinstance(reply, SimulationWorkerDied):
            self._died(worker, reply)
            return None
        post = self._posts[worker]
        task, post.under_way, post.idle_deaths = post.under_way, None, 0
        if task is None:
            raise WorkerError(f"a worker that was asked nothing answered {type(reply).__name__}")
        if isinstance(task.job, TrainDevice) and task.job.counted and isinstance(reply, DeviceTrained):
            post.counted.append(task.job)
        elif isinstance(reply, SumsCollected):
            post.counted.clear()
        if post.waiting:
            self._next(worker)
        if not task.again:
            return worker, reply
        if isinstance(reply, JobFailed):
            raise failure(reply)
        if isinstance(reply, DeviceGaveUp):
            raise WorkerError(f"{reply.device} trained once and cannot do so again: {reply.reason}")
        return None

    def sums(self, worker: int) -> SumArrays:
        """See ``Engine.sums``."""
        return self._engine.sums(worker)

    def close(self) -> None:
        """See ``Engine.close``."""
        self._engine.close()

    def _next(self, worker: int) -> None:
        post = self._posts[worker]
        post.under_way = post.waiting.popleft()
        self._engine.submit(worker, post.under_way.job)

    def _died(self, worker: int, died: SimulationWorkerDied) -> None:
        """Has the new worker do what the old one had done, then what it died of."""
        post = self._posts[worker]
        lost, post.under_way = post.under_way, None
        during = f" while it {_words(lost.job)}" if lost is not None else ""
        if lost is None:
            post.idle_deaths += 1
            if post.idle_deaths > 1:
                raise ended(died, " twice without anything to do")
        self._tell(f"a worker process {died.exit}{during}; what it took with it is done again in a new one")
        if lost is not None:
            lost.deaths += 1
            self._repeat(worker, lost, died, during)
        post.waiting.extendleft(_Task(job, again=True) for job in reversed(post.counted))
        post.counted = []
        if post.waiting:
            self._next(worker)

    def _repeat(self, worker: int, lost: _Task, died: SimulationWorkerDied, during: str) -> None:
        """Puts what a worker died of before all else that waits for its successor, or answers in its place."""
        if lost.deaths > 1:
            reason = str(ended(died, f" for the second time{during}"))
            self._answers.append((worker, JobFailed("worker", reason)))
        elif died.crashed and isinstance(lost.job, ChooseCompute):  # a mode that crashes is none
            self._answers.append((worker, ComputeChosen(lost.job.depth, "float32")))
        else:
            if died.crashed and isinstance(lost.job, TrainDevice):
                self._crashed.add(lost.job.device)
                lost.job = _plain(lost.job)
            self._posts[worker].waiting.appendleft(lost)


def _plain(job: TrainDevice) -> TrainDevice:
    return msgspec.structs.replace(
        job, compute="float32", memory_saving=msgspec.structs.replace(job.memory_saving, allocator="exact")
    )


def _words(job: SimulationJob) -> str:
    """What a worker was busy with."""
    match job:
        case TrainDevice(device=device, depth=depth, compute=compute):
            return f"trained {device} (depth {depth}, {compute})"
        case ChooseCompute(depth=depth):
            return f"looked for the fastest way to compute depth {depth}"
        case EvaluatePart():
            return "judged the model"
        case EvaluatePersonalHead(device=device):
            return f"judged the head of {device}"
        case CollectSums():
            return "handed over its sums"
    assert_never(job)


def _torch() -> str:
    return torch_version() or "(none)"
