"""FedDyn: what DepthFL's authors have devices and the server compute, in numbers small enough for a sheet of paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.rivals.dynamic_regularisation import DynamicEngine, DynamicModel
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean, SumArrays
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.settings import ObjectiveSettings, SchemeSettings, ServerSettings, TrainingSettings, UpdateSettings
from fedlp_edge.simulation.engines.base import OpenedExperiment
from fedlp_edge.simulation.engines.jobs import DeviceTrained, Reply, SimulationJob, TrainDevice, WorkerSetup
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.wire.tensors import pack, unpack

WEIGHT, VARIANCE = TensorSpec("L1.weight", (2,)), TensorSpec("L1.variance", (1,), "statistic")
BLUEPRINT = Blueprint(
    model="two-exits",
    input_shape=(2,),
    classes=2,
    head_mode="shared",
    units=(
        Unit("L1", "layer", "layer", 1, (WEIGHT, VARIANCE)),
        Unit("L2", "layer", "layer", 2, ()),
        Unit("H1", "exit", "head", 1, ()),
        Unit("H2", "exit", "head", 2, ()),
    ),
    costs=(DepthCost(1, 2, 2, 2), DepthCost(2, 2, 2, 2)),
    exits="all",
)


def of(*values: float) -> Array:
    return np.array(values, np.float32)


class Workers:
    """An engine that has trained a device as soon as it gets its job; ``after`` are the weights that this gives."""

    workers = 1

    def __init__(self) -> None:
        self.jobs: list[TrainDevice] = []
        self.after = of(0, 0)

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        return OpenedExperiment(BLUEPRINT, {})

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        pass

    def retire(self, version: int) -> None:
        pass

    def submit(self, worker: int, job: SimulationJob) -> None:
        assert isinstance(job, TrainDevice)
        self.jobs.append(job)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        job = self.jobs[-1]
        withheld = pack({"L1.weight": self.after, "L1.variance": of(9)})
        return 0, DeviceTrained(job.device, job.round, 5, 0.5, 1.0, 8, "float32", withheld_values=withheld)

    def sums(self, worker: int) -> SumArrays:
        return SumArrays()

    def close(self) -> None:
        pass


def job(device: str, round: int) -> TrainDevice:
    training = TrainingSettings(objective=ObjectiveSettings(distillation=1.0))
    return TrainDevice(0, device, round, round - 1, 1, 2, {}, "none", training=training)


def test_a_device_is_pulled_towards_the_weights_less_what_its_own_rounds_have_changed() -> None:
    workers = Workers()
    engine = DynamicEngine(workers, alpha=0.1)
    engine.open(None, None, None)  # type: ignore[arg-type]  # the engine behind it looks at none of them
    starts = [of(1, 2), of(3, 3), of(4, 4)]
    for round, (start, after) in enumerate(zip(starts, [of(1.5, 2), of(2, 4), of(0, 0)], strict=True), start=1):
        engine.publish(round - 1, {"L1.weight": start, "L1.variance": of(1)})
        engine.submit(0, job("dev-1", round))
        workers.after = after
        answer = engine.next_reply(0.0)
        assert answer is not None
        assert isinstance(answer[1], DeviceTrained)
        assert answer[1].withheld_values == b""
    # With h = 0, then -0.1 (0.5, 0), then that less 0.1 (-1, 1): the anchors are w_0 + h / 0.1.
    anchors = [unpack(sent.anchor)["L1.weight"].tolist() for sent in workers.jobs]
    assert anchors == [[1, 2], [2.5, 3], [4.5, 3]]
    # The objective is half of DepthFL's, which adds up two exits.
    assert [sent.training.objective for sent in workers.jobs] == [
        ObjectiveSettings(distillation=1.0, proximal=0.05)
    ] * 3
    engine.submit(0, job("dev-2", 3))
    assert unpack(workers.jobs[-1].anchor)["L1.weight"].tolist() == [4, 4]


def test_the_server_adds_what_its_rounds_have_changed_by_the_share_of_the_fleet_behind_it() -> None:
    weights = {"L1.weight": of(1, 2), "L1.variance": of(1)}
    model = DynamicModel(
        BLUEPRINT, SchemeSettings(), ServerSettings(), weights, update=UpdateSettings(), seed=1, population=4
    )
    first = LayerwiseMean(2, statistics=BLUEPRINT.statistics)
    first.add({"L1.weight": of(0.5, 0), "L1.variance": of(2)}, 1)
    first.add({"L1.weight": of(0.1, 0.2), "L1.variance": of(4)}, 1)
    model.step(1, first)
    # h = -0.1 * 2/4 * (0.3, 0.1); the next weights are (1.3, 2.1) - h / 0.1, and the mean of a statistic is its own.
    assert model.weights["L1.weight"].tolist() == pytest.approx([1.45, 2.15], abs=1e-6)
    assert model.weights["L1.variance"].tolist() == [3]

    second = LayerwiseMean(1, statistics=BLUEPRINT.statistics)
    second.add({"L1.weight": of(-0.2, 0.4)}, 1)
    made = DynamicModel(
        BLUEPRINT, SchemeSettings(), ServerSettings(), model.weights, model.state, update=UpdateSettings(), seed=1,
        population=4,
    )  # fmt: skip
    made.step(2, second)
    # h = (-0.015, -0.005) - 0.1 * 1/4 * (-0.2, 0.4) = (-0.01, -0.015); (1.25, 2.55) - h / 0.1.
    assert made.weights["L1.weight"].tolist() == pytest.approx([1.35, 2.7], abs=1e-6)
