"""The parts of a simulation, each alone and on tiny values."""

from __future__ import annotations

import itertools
import socket
import tomllib
from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.core.exit_counts import ExitCounts
from fedlp_edge.errors import DataError, WorkerError
from fedlp_edge.simulation.engines.base import QueuedJob, SimulationStoppedError, carry_out
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
    PartEvaluated,
    PersonalHeadEvaluated,
    Reply,
    SimulationJob,
    SumsCollected,
)
from fedlp_edge.simulation.scores import NOTHING, PART, by_tier, combine_scores, own_by_tier, parts
from fedlp_edge.simulation.shared_memory import SharedArrays, layout_of
from fedlp_edge.simulation.virtual_time import Timeline
from tests.simulation.conftest import experiment

# Time


def test_delivers_in_order_of_time_and_stops_at_a_deadline() -> None:
    timeline = Timeline()
    timeline.expect("slow", 5.0)
    timeline.expect("quick", 1.0)
    assert (timeline.advance(3.0), timeline.now) == ("quick", 1.0)
    assert (timeline.advance(3.0), timeline.now) == (None, 3.0)
    assert (timeline.advance(None), timeline.now) == ("slow", 5.0)
    with pytest.raises(ValueError, match="nothing"):
        timeline.advance(None)


def test_delivers_only_what_was_expected_last() -> None:
    timeline = Timeline()
    timeline.expect("a", 1.0)
    timeline.expect("a", 4.0)
    timeline.expect("b", 2.0)
    timeline.cancel("b")
    assert (timeline.advance(None), timeline.now) == ("a", 4.0)
    assert not timeline.is_expected("a")


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
    assert len(list(carry_out(engine, jobs(1, 5, 3), lambda: False))) == 3  # type: ignore[arg-type]
    assert starts(engine) == [5, 3, 1]
    assert [worker for worker, _ in engine.given] == [0, 1, 0]


def test_finishes_what_is_under_way_before_it_stops_or_fails() -> None:
    engine = Workers(2, failing=0)
    answered = carry_out(engine, jobs(1, 5, 3), lambda: False)  # type: ignore[arg-type]
    assert isinstance(next(answered), SumsCollected)
    with pytest.raises(DataError, match="no such data"):
        next(answered)
    assert starts(engine) == [5, 3]
    stopping = Workers(1)
    with pytest.raises(SimulationStoppedError):
        list(carry_out(stopping, jobs(1, 2), lambda: len(stopping.given) == 1))  # type: ignore[arg-type]
    assert starts(stopping) == [2]


# Verdicts


def counts(depth: int, samples: tuple[int, ...], right: tuple[int, ...]) -> ExitCounts:
    """Of one exit with a loss of 1 for each sample."""
    loss = {depth: float(sum(samples))}
    return ExitCounts(samples, {depth: right}, loss, {depth: sum(right)}, loss)


def part(start: int, samples: tuple[int, ...], right: tuple[int, ...]) -> PartEvaluated:
    return PartEvaluated(start, counts(2, samples, right))


def test_puts_parts_together_in_any_order() -> None:
    pieces = [part(0, (2, 2), (1, 2)), part(4, (1, 3), (1, 0))]
    for job in (pieces, pieces[::-1]):
        said = combine_scores(job)
        assert (said.accuracy, said.loss, said.ensemble) == ({2: 0.5}, {2: 1.0}, {2: 0.5})
        assert said.by_class[2].tolist() == [2 / 3, 0.4]
    assert combine_scores([]) is NOTHING


def test_weighs_classes_as_a_device_holds_them() -> None:
    said = combine_scores([part(0, (2, 4, 0), (1, 4, 0))])
    assert said.personalised(2, np.array([1.0, 0.0, 0.0])) == 0.5
    assert said.personalised(2, np.array([0.5, 0.5, 0.0])) == 0.75
    # There is no test sample of the last class: the others count for the whole.
    assert said.personalised(2, np.array([0.25, 0.0, 0.75])) == 0.5
    priors = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert by_tier(said, {"a": 2, "b": 2, "c": 1}, {"a": 0, "b": 1, "c": 1}, priors) == {2: 0.75}


def test_weighs_what_own_heads_know_by_what_their_devices_hold() -> None:
    judged = [
        PersonalHeadEvaluated("b", 1, counts(1, (4, 0, 4), (2, 0, 4))),
        PersonalHeadEvaluated("a", 1, counts(1, (4, 0, 4), (0, 0, 4))),
        PersonalHeadEvaluated("c", 2, counts(2, (1,), (1,))),
    ]
    priors = np.array([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    numbers = {"a": 0, "b": 1, "c": 2}
    # Device a holds only what its head gets wrong; of b's classes the test set lacks one.
    assert own_by_tier(judged, numbers, priors) == {1: (0.0 + 0.75) / 2, 2: 1.0}


def test_cuts_the_test_set_without_gap_or_overlap() -> None:
    spans = [(job.job.start, job.job.stop) for job in parts(3, (1, 2), 2 * PART + 5, 10)]  # type: ignore[union-attr]
    assert spans == [(0, PART), (PART, 2 * PART), (2 * PART, 2 * PART + 5)]


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
        other = SharedArrays(descriptors[0], message.layout).keep_mapped()
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


@given(st.lists(st.tuples(st.sampled_from(["<f4", "<i8", "|u1"]), st.lists(st.integers(0, 5), max_size=3))))
def test_lays_arrays_out_without_overlap(kinds: list[tuple[str, list[int]]]) -> None:
    layout = layout_of({str(number): (dtype, tuple(shape)) for number, (dtype, shape) in enumerate(kinds)})
    for one, following in itertools.pairwise(layout):
        assert one.offset + one.nbytes <= following.offset
        assert following.offset % 64 == 0


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
