"""A worker process of the local engine, driven from this process over the same socket pair and shared memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fedlp_edge.simulation.engines.channel import (
    Channel,
    FromWorker,
    InitialWeights,
    PublishWeights,
    SampleArrays,
    SetUpWorker,
    Sums,
    SumsWritten,
    WeightsBuffer,
    WeightsWritten,
)
from fedlp_edge.simulation.engines.jobs import (
    CollectSums,
    DescribeTask,
    DeviceTrained,
    JobFailed,
    TaskDescribed,
    TrainDevice,
    WorkerReady,
)
from fedlp_edge.simulation.engines.local_worker import serve
from fedlp_edge.simulation.shared_memory import SharedArrays, layout_of
from tests.simulation.in_process import SAMPLES, SETUP
from tests.two_layers import LAYERS, ONE_STEP, SETTINGS, VALUES


@pytest.fixture
def worker() -> Iterator[Channel[FromWorker]]:
    """The simulation's end of the channel to a worker that runs in a thread."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    channel: Channel[FromWorker] = Channel(ours, FromWorker)  # type: ignore[arg-type]
    yield channel
    channel.close()
    thread.join(10)
    theirs.close()


def answer(worker: Channel[FromWorker]) -> FromWorker:
    return worker.receive()[0]


def test_trains_from_shared_weights_into_shared_sums(worker: Channel[FromWorker]) -> None:
    samples = SharedArrays.copy_of(SAMPLES)
    worker.send(SampleArrays("pictures", samples.layout), samples.descriptor)
    worker.send(SetUpWorker(SETUP))
    ready = answer(worker)
    assert isinstance(ready, WorkerReady)
    assert ready.blueprint.full_depth == 2

    weights = SharedArrays.create(layout_of({name: ("<f4", np.shape(rows)) for name, rows in VALUES.items()}))
    worker.send(WeightsBuffer(0, weights.layout), weights.descriptor)
    worker.send(InitialWeights(0))
    assert answer(worker) == WeightsWritten()
    assert {name: array.tolist() for name, array in weights.arrays.items()} == VALUES

    memory = SharedArrays.create(layout_of({"L1.weight": ("<i8", (2, 1))}))
    worker.send(Sums(memory.layout), memory.descriptor)
    worker.send(PublishWeights(0, 0))
    first_layer = {"L1": LAYERS["L1"]}
    worker.send(TrainDevice(0, "a", 1, 0, 2, 2, first_layer, "none", training=ONE_STEP, most=2))
    assert isinstance(answer(worker), DeviceTrained)
    worker.send(CollectSums(2))
    assert answer(worker) == SumsWritten(("L1.weight",), {"L1.weight": ((2, 2, 1),)})
    up, down = memory.arrays["L1.weight"].ravel().tolist()
    assert up == -down > 0  # half a unit each, in the integers of an exact sum
    for shared in (samples, weights, memory):
        shared.close()


def test_answers_a_job_that_fails_with_its_reason(worker: Channel[FromWorker]) -> None:
    worker.send(CollectSums(2))
    assert answer(worker) == JobFailed("worker", "ValueError: no experiment is open")
    worker.send(DescribeTask(SETTINGS))  # needs no experiment, and the worker lives on
    assert answer(worker) == TaskDescribed("class")
