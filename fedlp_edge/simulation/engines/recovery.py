"""This module repeats the work of a simulation's worker process that died, once.

Native code crashes, and the kernel kills processes when memory runs out. Then the worker's current job is lost, and the
sums of all updates that it had added in this round. The engine replaces the worker; this module computes its updates
again and then repeats the job. Training is deterministic and sums are exact, so the model does not change.

After a crash of native code a device trains from then on as a real one does: in float32, with memory returned to the
system at once. A job whose worker was killed is repeated unchanged. A job of which two workers died ends the
simulation, with one line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.errors import WorkerError
from fedlp_edge.simulation.engines.base import Engine, OpenedExperiment, failure
from fedlp_edge.simulation.engines.jobs import (
    ChooseCompute,
    CollectSums,
    ComputeChosen,
    ComputeMetrics,
    DescribeTask,
    DeviceGaveUp,
    DeviceTrained,
    EvaluatePart,
    EvaluatePersonalHead,
    JobFailed,
    JudgeDevice,
    Reply,
    SimulationJob,
    SimulationWorkerDied,
    SumsCollected,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.system.portable.process_ends import crashed, how_it_ended, signal_of
from fedlp_edge.system.portable.stop_signals import STOP_SIGNALS
from fedlp_edge.system.processor_info import install_hint, processor_name, torch_version


def death(code: int) -> SimulationWorkerDied:
    """Describes the end of a process by its exit code; negative for a signal, as in ``subprocess``."""
    name = signal_of(code)
    if not name:
        return SimulationWorkerDied(how_it_ended(code), "what it said last stands above")
    if crashed(code):
        remedy = f"native code of PyTorch {_torch()} crashed on {processor_name()}: {install_hint()}"
        return SimulationWorkerDied(how_it_ended(code), remedy, crashed=True)
    if name in {number.name for number in STOP_SIGNALS}:
        return SimulationWorkerDied(how_it_ended(code), "somebody stopped it; the same command goes on")
    remedy = f"most likely for memory (PyTorch {_torch()}): use fewer workers, or a smaller model or batch size"
    return SimulationWorkerDied(f"was killed by {name}", remedy)


def ended(died: SimulationWorkerDied, during: str) -> WorkerError:
    """Returns the error for a dead worker process that ends the simulation."""
    return WorkerError(f"a worker process of the simulation {died.exit}{during}; {died.remedy}")


@dataclass
class _Task:
    """One job of a worker, with the state of its repetition.

    Attributes:
        job: Job.
        again: Whether the reply is known already, and only the update must be computed again.
        deaths: Number of workers that died of the job.
    """

    job: SimulationJob
    again: bool = False
    deaths: int = 0


@dataclass
class _Post:
    """The state of one worker, whichever process it is.

    Attributes:
        under_way: Current job; None if the worker is idle.
        waiting: Jobs that follow.
        counted: Jobs whose updates are in the worker's sums.
        idle_deaths: Number of processes that died without a job since the last reply.
    """

    under_way: _Task | None = None
    waiting: deque[_Task] = field(default_factory=deque)
    counted: list[TrainDevice] = field(default_factory=list)
    idle_deaths: int = 0


class RecoveringEngine:
    """An engine that hides the deaths of workers by repeating their work.

    Args:
        engine: Engine that replies ``SimulationWorkerDied`` once it has replaced a worker that died.
        tell: Callback with one line about each death.
    """

    def __init__(self, engine: Engine, tell: Callable[[str], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._posts = [_Post() for _ in range(engine.workers)]
        self._crashed: set[str] = set()
        self._answers: deque[tuple[int, Reply]] = deque()

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self._engine.workers

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        """Begins an experiment, as ``Engine.open`` says."""
        return self._engine.open(setup, simulation_data, assignment)

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the global model weights available to all workers."""
        self._engine.publish(version, weights)

    def retire(self, version: int) -> None:
        """Frees a version of the model weights that no further job uses."""
        self._engine.retire(version)

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker a job."""
        if isinstance(job, TrainDevice) and job.device in self._crashed:
            job = _plain(job)
        post = self._posts[worker]
        post.waiting.append(_Task(job))
        if post.under_way is None:
            self._next(worker)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits for the next reply, as ``Engine.next_reply`` says; None also after a repeated update or a death."""
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
        """Returns the sums of the worker's last ``CollectSums``."""
        return self._engine.sums(worker)

    def close(self) -> None:
        """Ends the workers."""
        self._engine.close()

    def _next(self, worker: int) -> None:
        post = self._posts[worker]
        post.under_way = post.waiting.popleft()
        self._engine.submit(worker, post.under_way.job)

    def _died(self, worker: int, died: SimulationWorkerDied) -> None:
        """Queues the summed updates of a dead worker again, then the job that it died of."""
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
        """Queues the job that a worker died of before all others, or replies in the worker's place."""
        if lost.deaths > 1:
            reason = str(ended(died, f" for the second time{during}"))
            self._answers.append((worker, JobFailed("worker", reason)))
        elif died.crashed and isinstance(lost.job, ChooseCompute):  # a compute mode that crashes is not usable
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
    """Describes a job, for the message about a death."""
    match job:
        case TrainDevice(device=device, depth=depth, compute=compute):
            words = f"trained {device} (depth {depth}, {compute})"
        case ChooseCompute(depth=depth):
            words = f"looked for the fastest way to compute depth {depth}"
        case EvaluatePart():
            words = "judged the model"
        case JudgeDevice(device=device):
            words = f"judged the model on what {device} holds out"
        case EvaluatePersonalHead(device=device):
            words = f"judged the head of {device}"
        case CollectSums():
            words = "handed over its sums"
        case ComputeMetrics() | DescribeTask():
            words = "asked the task what it learns or measures"
        case _:
            assert_never(job)
    return words


def _torch() -> str:
    return torch_version() or "(none)"
