"""This module defines the interface of an engine, which computes for a simulation, and distributes jobs to its workers.

An engine has workers that each do one job at a time. Which worker trains which device does not change the model, since
sums are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.start_weights import StartWeightsReport
from fedlp_edge.errors import FedLPError, WorkerError
from fedlp_edge.simulation.engines.jobs import (
    FAMILIES,
    CollectSums,
    JobFailed,
    Reply,
    SimulationJob,
    SumsCollected,
    WorkerSetup,
)
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData

T = TypeVar("T")


class SimulationStoppedError(Exception):
    """Raised when the simulation was asked to stop; committed rounds are kept."""


@dataclass(frozen=True)
class OpenedExperiment:
    """What the workers of an engine have built for an experiment.

    Attributes:
        blueprint: Blueprint of the model.
        weights: Initial values of its global units, by tensor name.
        start_weights: Report on what was taken of the experiment's start weights; None if it has none.
    """

    blueprint: Blueprint
    weights: dict[str, Array]
    start_weights: StartWeightsReport | None = None


class Engine(Protocol):
    """The interface of an engine: numbered workers that do the jobs of one experiment at a time."""

    @property
    def workers(self) -> int:
        """Number of workers, which are numbered from 0."""

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        """Begins an experiment, and frees the memory of the one before.

        Raises:
            DataError: The samples do not fit the model.
            ModelError: The model cannot be built.
            WorkerError: A worker ended.
        """

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the global model weights available to all workers."""

    def retire(self, version: int) -> None:
        """Frees a version of the model weights that no further job uses."""

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker a job."""

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits at most ``seconds`` for the next reply of any worker; None if no reply arrives.

        For a worker process that died, the reply is ``SimulationWorkerDied``. A new process with the same number has
        replaced it: it has the experiment and the versions of the model weights, but none of the summed updates.

        Raises:
            WorkerError: The worker cannot be replaced.
        """

    def sums(self, worker: int) -> SumArrays:
        """Returns the sums of the worker's last ``CollectSums``, valid until its next job."""

    def close(self) -> None:
        """Ends the workers."""


@dataclass(frozen=True)
class QueuedJob:
    """A job and its estimated cost, in any unit that all jobs of a round share."""

    job: SimulationJob
    cost: float


POLL_SECONDS = 0.2
"""Seconds between two checks for a stop while all workers are busy."""


def run_jobs(engine: Engine, jobs: Iterable[QueuedJob], stopped: Callable[[], bool]) -> Iterator[Reply]:
    """Runs jobs on all workers, the most expensive first, so that all workers end at about the same time.

    Started jobs are always finished, so the engine is idle afterwards, even after an error.

    Raises:
        SimulationStoppedError: ``stopped()`` returned True.
        FedLPError: A job failed; the type is that of the first failure (``failure``).
    """
    waiting = deque(sorted(jobs, key=lambda job: -job.cost))
    idle = deque(range(engine.workers))
    busy = 0
    end: Exception | None = None
    while waiting or busy:
        if end is None and stopped():
            end = SimulationStoppedError()
        while waiting and idle and end is None:
            engine.submit(idle.popleft(), waiting.popleft().job)
            busy += 1
        if end is not None and not busy:
            raise end
        answer = engine.next_reply(POLL_SECONDS)
        if answer is None:
            continue
        worker, reply = answer
        busy -= 1
        idle.append(worker)
        if isinstance(reply, JobFailed):
            end = end or failure(reply)
        else:
            yield reply
    if end is not None:
        raise end


def collect_sums(engine: Engine, capacity: int) -> Iterator[SumArrays]:
    """Yields the sums of every worker that added an update; all of them are valid until the next job."""
    for worker in range(engine.workers):
        engine.submit(worker, CollectSums(capacity))
    left = engine.workers
    end: Exception | None = None
    while left:
        answer = engine.next_reply(POLL_SECONDS)
        if answer is None:
            continue
        worker, reply = answer
        left -= 1
        if isinstance(reply, JobFailed):
            end = end or failure(reply)
        elif expected(reply, SumsCollected) and (sums := engine.sums(worker)):
            yield sums
    if end is not None:
        raise end


def failure(reply: JobFailed) -> Exception:
    """Returns the error that a worker's reply describes."""
    families: dict[str, type[FedLPError]] = dict(FAMILIES)
    return families.get(reply.kind, WorkerError)(reply.reason)


def expected(message: object, kind: type[T]) -> T:
    """Returns a worker's message if it is of the expected type.

    Raises:
        FedLPError: The job failed, for the reason that the worker gives.
        WorkerError: The message is of another type.
    """
    if isinstance(message, JobFailed):
        raise failure(message)
    if not isinstance(message, kind):
        raise WorkerError(f"a worker answered with {type(message).__name__}, not {kind.__name__}")
    return message
