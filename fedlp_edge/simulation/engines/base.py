"""What a simulation needs of whoever computes for it, and how work is spread over the workers.

An engine has a number of workers that each do one order at a time. Everything that decides what is learned is outside:
which worker trains which device cannot matter, since sums are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.errors import DataError, ModelError, WorkerError
from fedlp_edge.simulation.engines.jobs import CollectSums, JobFailed, Reply, SimulationJob, SumsCollected, WorkerSetup
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData

T = TypeVar("T")


class SimulationStoppedError(Exception):
    """The simulation was asked to stop; what is committed is kept."""


class Engine(Protocol):
    """Workers, wherever they are."""

    @property
    def workers(self) -> int:
        """How many there are; they are numbered from 0."""

    def open(
        self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment
    ) -> tuple[Blueprint, dict[str, Array]]:
        """Forgets the experiment before and begins another.

        Returns:
            The model as data, and the initial values of its global units.

        Raises:
            DataError: the samples do not fit the model.
            ModelError: the model cannot be built.
            WorkerError: a worker ended.
        """

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the global weights known to all workers."""

    def retire(self, version: int) -> None:
        """Says that no order will name this version again."""

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker something to do."""

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits for the next answer of any worker, at most so long.

        For a worker that ended by itself it is ``WorkerDied``, and a new worker with the same number has taken its
        place: it knows the experiment and the versions of the weights, and has counted no update.

        Raises:
            WorkerError: no other worker can take its place.
        """

    def sums(self, worker: int) -> SumArrays:
        """What the worker's last ``CollectSums`` handed over (``LayerwiseMean.arrays``), until its next order."""

    def close(self) -> None:
        """Ends the workers."""


@dataclass(frozen=True)
class QueuedJob:
    """An order and what it costs, in any unit that all jobs of a round share."""

    job: SimulationJob
    cost: float


LOOK_SECONDS = 0.2
"""How often a stop is looked for while all workers are at work."""


def carry_out(engine: Engine, jobs: Iterable[QueuedJob], stopped: Callable[[], bool]) -> Iterator[Reply]:
    """Has jobs done, the longest first, so that all workers end at about the same time.

    What is under way is always finished, so that the engine is at rest whatever happens.

    Raises:
        SimulationStoppedError: once ``stopped()`` says so.
        DataError: and others, as the first order that failed says.
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
        answer = engine.next_reply(LOOK_SECONDS)
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


def collect(engine: Engine, capacity: int) -> Iterator[SumArrays]:
    """The sums of every worker that counted an update; all are valid until the next order."""
    for worker in range(engine.workers):
        engine.submit(worker, CollectSums(capacity))
    left = engine.workers
    end: Exception | None = None
    while left:
        answer = engine.next_reply(LOOK_SECONDS)
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
    """The error that a worker told of."""
    family = {"data": DataError, "model": ModelError}.get(reply.kind, WorkerError)
    return family(reply.reason)


def expected(message: object, kind: type[T]) -> T:
    """The answer, if it is of the kind that was asked for.

    Raises:
        FedLPError: the worker tells why not.
    """
    if isinstance(message, JobFailed):
        raise failure(message)
    if not isinstance(message, kind):
        raise WorkerError(f"a worker answered with {type(message).__name__}, not {kind.__name__}")
    return message
