"""What one worker of a simulation computes, with numbers that can be worked out by hand (``tests.two_layers``)."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fedlp_edge.core.algorithm.aggregation import LayerwiseMean
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError
from fedlp_edge.simulation.engines.jobs import (
    CollectSums,
    DescribeTask,
    DeviceGaveUp,
    DeviceJudged,
    DeviceTrained,
    EvaluatePart,
    JudgeDevice,
    SumsCollected,
    TaskDescribed,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.engines.worker import SimulationWorker, describe_task
from fedlp_edge.wire.tensors import unpack
from tests.simulation.in_process import SAMPLES, SETUP
from tests.two_layers import LAYERS, ONE_STEP, PERSONAL, SETTINGS, VALUES

JOB = TrainDevice(0, "a", 1, 0, capacity=4, depth=2, sent=LAYERS, encoding="none", training=ONE_STEP, most=2)


def worker(setup: WorkerSetup = SETUP, **samples: object) -> SimulationWorker:
    """A worker that knows the initial weights as version 0."""
    opened = SimulationWorker(setup, {**SAMPLES, **samples})  # type: ignore[arg-type]
    opened.publish(0, {name: array.copy() for name, array in opened.initial_weights().items()})
    return opened


def mean(worker: SimulationWorker, capacity: int = 4) -> dict[str, list[object]]:
    shapes = worker.blueprint.nested_shapes
    return {k: v.tolist() for k, v in LayerwiseMean.from_arrays(worker.collect(), capacity, shapes).means().items()}


def test_begins_with_the_values_of_the_model() -> None:
    assert {name: array.tolist() for name, array in worker().initial_weights().items()} == VALUES


def test_trains_devices_and_sums_what_they_send_until_it_is_collected() -> None:
    one = worker()
    replies = [one.do(JOB), one.do(msgspec.structs.replace(JOB, number=1, device="b"))]
    trained = [reply for reply in replies if isinstance(reply, DeviceTrained)]
    assert [(reply.device, reply.round, reply.samples, reply.compute) for reply in trained] == [
        ("a", 1, 2, "float32"),
        ("b", 1, 2, "float32"),
    ]
    assert trained[0].loss == pytest.approx(0.6931, abs=1e-4)  # ln 2, a guess between two classes
    assert trained[0].withheld_values == b""
    assert one.do(CollectSums(4)) == SumsCollected()
    assert mean(one) == {"L1.weight": [[0.5], [-0.5]], "L2.weight": [[0.5, 0.5], [-0.5, -0.5]]}
    assert not one.collect()


def test_weighs_updates_by_samples_unless_they_are_uniform() -> None:
    more = {"train/x": np.ones((6, 1), np.float32), "train/y": np.zeros(6, np.int64), "members": np.arange(6)}
    first = msgspec.structs.replace(JOB, capacity=6)
    second = msgspec.structs.replace(first, number=1, device="b", most=4)
    by_samples = worker(**more, starts=np.array([0, 2, 6]))
    assert [by_samples.do(job).samples for job in (first, second)] == [2, 4]  # type: ignore[union-attr]
    assert by_samples.collect().weights["L1.weight"].tolist() == [[6, 2, 1]]
    uniform = worker(msgspec.structs.replace(SETUP, uniform=True), **more, starts=np.array([0, 2, 6]))
    for job in (first, second):
        uniform.do(job)
    assert uniform.collect().weights["L1.weight"].tolist() == [[2, 2, 1]]


def test_late_update_changes_what_stays_on_the_device_alone() -> None:
    one = worker(msgspec.structs.replace(SETUP, model=PERSONAL))
    late = msgspec.structs.replace(JOB, withheld=("H2",), counted=False)
    reply = one.do(late)
    assert isinstance(reply, DeviceTrained)
    assert (list(unpack(reply.withheld_values)), reply.sizes) == (["H2.weight"], {})
    assert not one.collect()


def test_device_whose_training_diverges_gives_up() -> None:
    one = worker()
    reply = one.do(msgspec.structs.replace(JOB, training=msgspec.structs.replace(ONE_STEP, lr=1e39)))
    assert isinstance(reply, DeviceGaveUp)
    assert reply.device == "a"
    assert not one.collect()


def test_judges_a_version_on_the_test_set_and_on_what_a_device_holds_out() -> None:
    one = worker()
    sums = one.do(EvaluatePart(0, (1, 2), 0, 2)).sums  # type: ignore[union-attr]
    assert sums.exits[2]["samples"] == (2.0,)
    assert sums.exits[2]["loss"] == (pytest.approx(2 * 0.6931, abs=1e-3),)
    assert one.do(JudgeDevice(0, "a", 0, 2)) == DeviceJudged("a")
    different = {"train/x": np.arange(8, dtype=np.float32)[:, None], "train/y": np.zeros(8, np.int64)}
    shares = {"members": np.arange(8), "starts": np.array([0, 8])}
    holding_out = worker(msgspec.structs.replace(SETUP, holdout=0.5), **different, **shares)
    judged = holding_out.do(JudgeDevice(0, "a", 0, 2))
    assert isinstance(judged, DeviceJudged)
    assert set(judged.scores) == {2}


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="the samples have shape 2 but the model takes 1"):
        worker(**{"train/x": np.ones((4, 2), np.float32)})
    without_test = SimulationWorker(SETUP, {name: array for name, array in SAMPLES.items() if name[:4] != "test"})
    with pytest.raises(ValueError, match="this experiment has no test set"):
        without_test.do(EvaluatePart(0, (1,), 0, 2))


def test_says_what_a_task_learns() -> None:
    assert describe_task(DescribeTask(SETTINGS)) == TaskDescribed("class")
    regression = ModelSettings(name=SETTINGS.name, input=(1,), classes=2, task="regression")
    assert describe_task(DescribeTask(regression)) == TaskDescribed("values")
