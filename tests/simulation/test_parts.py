"""The parts of a simulation, each alone and on tiny values."""

from __future__ import annotations

import socket
import tomllib
from collections import deque

import msgspec
import numpy as np
import pytest

from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.simulation.engines.base import QueuedJob, SimulationStoppedError, run_jobs
from fedlp_edge.simulation.engines.channel import (
    Channel,
    ChannelClosedError,
    FromWorker,
    PublishWeights,
    SampleArrays,
    ToWorker,
    WeightsWritten,
)
from fedlp_edge.simulation.engines.jobs import (
    EvaluatePart,
    JobFailed,
    Reply,
    SimulationJob,
    SumsCollected,
)
from fedlp_edge.simulation.shared_memory import SharedArrays
from tests.simulation.conftest import experiment

# Work


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


# Memory and messages


def test_shares_arrays_with_who_gets_the_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        memory = SharedArrays.copy_of({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7])})
        to_worker: Channel[FromWorker] = Channel(ours, FromWorker)  # type: ignore[arg-type]
        to_us: Channel[ToWorker] = Channel(theirs, ToWorker)  # type: ignore[arg-type]
        to_worker.send(SampleArrays("pictures", memory.layout), memory.descriptor)
        to_worker.send(PublishWeights(3, 0))
        message, descriptors = to_us.receive()
        assert isinstance(message, SampleArrays)
        other = SharedArrays(descriptors[0], message.layout).close_descriptor()
        other.arrays["a"][1, 2] = 50
        assert memory.arrays["a"].tolist() == [[0, 1, 2], [3, 4, 50]]
        memory.close()
        assert other.arrays["b"].tolist() == [7]
        assert to_us.receive() == (PublishWeights(3, 0), [])
        to_us.send(WeightsWritten())
        assert to_worker.receive() == (WeightsWritten(), [])


def test_says_so_when_the_other_side_has_ended() -> None:
    ours, theirs = socket.socketpair()
    channel: Channel[FromWorker] = Channel(ours, FromWorker)  # type: ignore[arg-type]
    theirs.close()
    with pytest.raises(ChannelClosedError):
        channel.receive()
    channel.close()


# Settings as text


def test_writes_settings_that_read_back_the_same() -> None:
    run = experiment()
    text = to_toml(run)
    assert msgspec.convert(tomllib.loads(text), type(run)) == run
    assert "seed = 1" in text.splitlines()
    assert "[fleet]" in text.splitlines()


def test_refuses_an_answer_of_another_kind() -> None:
    from fedlp_edge.simulation.engines.base import expected

    assert expected(SumsCollected(), SumsCollected) == SumsCollected()
    with pytest.raises(WorkerError, match="Collected, not WeightsWritten"):
        expected(SumsCollected(), WeightsWritten)
