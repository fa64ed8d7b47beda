"""How jobs are given to the workers of an engine."""

from __future__ import annotations

from collections import deque

import pytest

from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.simulation.engines.base import QueuedJob, SimulationStoppedError, run_jobs
from fedlp_edge.simulation.engines.channel import (
    WeightsWritten,
)
from fedlp_edge.simulation.engines.jobs import (
    EvaluatePart,
    JobFailed,
    Reply,
    SimulationJob,
    SumsCollected,
)


class Workers:
    """An engine whose workers take turns; answers come in the order of submission."""

    def __init__(self, count: int, failing: int | None = None) -> None:
        self.workers = count
        self.given: list[tuple[int, SimulationJob]] = []
        self._answers: deque[tuple[int, Reply]] = deque()
        self._failing = failing

    def submit(self, worker: int, job: SimulationJob) -> None:
        failed = len(self.given) == self._failing
        self.given.append((worker, job))
        self._answers.append((worker, JobFailed("data", "no such data") if failed else SumsCollected()))

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        return self._answers.popleft()


def jobs(*costs: int) -> list[QueuedJob]:
    return [QueuedJob(EvaluatePart(0, (1,), cost, cost), float(cost)) for cost in costs]


def starts(engine: Workers) -> list[int]:
    return [job.start for _, job in engine.given if isinstance(job, EvaluatePart)]


def test_begins_with_the_longest_work() -> None:
    engine = Workers(2)
    assert len(list(run_jobs(engine, jobs(1, 5, 3), lambda: False))) == 3  # type: ignore[arg-type]
    assert starts(engine) == [5, 3, 1]
    assert [worker for worker, _ in engine.given] == [0, 1, 0]


def test_finishes_what_is_under_way_before_it_stops_or_fails() -> None:
    engine = Workers(2, failing=0)
    answered = run_jobs(engine, jobs(1, 5, 3), lambda: False)  # type: ignore[arg-type]
    assert isinstance(next(answered), SumsCollected)
    with pytest.raises(DataError, match="no such data"):
        next(answered)
    assert starts(engine) == [5, 3]
    stopping = Workers(1)
    with pytest.raises(SimulationStoppedError):
        list(run_jobs(stopping, jobs(1, 2), lambda: len(stopping.given) == 1))  # type: ignore[arg-type]
    assert starts(stopping) == [2]


def test_refuses_an_answer_of_another_kind() -> None:
    from fedlp_edge.simulation.engines.base import expected

    assert expected(SumsCollected(), SumsCollected) == SumsCollected()
    with pytest.raises(WorkerError, match="Collected, not WeightsWritten"):
        expected(SumsCollected(), WeightsWritten)
