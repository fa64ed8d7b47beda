"""Personal heads at the end of a run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.simulation.engines.personal_heads import evaluate_personal_heads
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.round_jobs import RoundJobs
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.storage.device_values import DeviceValues
from fedlp_edge.wire.tensors import pack
from tests.simulation.in_process import SAMPLES, SETUP, InProcessEngine
from tests.two_layers import PERSONAL, two_layers

RIGHT = np.eye(2, dtype=np.float32)
DEVICES = [CohortMember(device, 1, 1.0, 2, 2) for device in ("a", "b", "c")]


@pytest.fixture
def engine() -> InProcessEngine:
    """One worker with a model whose first layer tells the sign of a sample, as version 7."""
    arrays = {name: array for name, array in SAMPLES.items() if "/" in name}
    data = SimulationData(arrays, 2, 1.0, (0.0,), (1.0,), np.zeros(4, np.int64), np.arange(4))
    assignment = DataAssignment({name: SAMPLES[name] for name in ("members", "starts")}, np.ones((2, 2)) / 2)
    opened = InProcessEngine()
    weights = opened.open(msgspec.structs.replace(SETUP, model=PERSONAL), data, assignment).weights
    opened.publish(7, weights | {"L1.weight": np.array([[1.0], [-1.0]], np.float32)})
    return opened


@pytest.fixture
def round_jobs(tmp_path: Path) -> RoundJobs:
    """Three devices of depth 1, of which a and b have trained a head; that of b answers the wrong way round."""
    fleet = {
        place.device: VirtualDevice(number, "", Plan(1, 1.0, "", 0, 1.0), place) for number, place in enumerate(DEVICES)
    }
    model = two_layers()
    model.head_mode = "personal"
    values = DeviceValues(tmp_path)
    values.write("a", 1, pack({"H1.weight": RIGHT}))
    values.write("b", 2, pack({"H1.weight": np.ascontiguousarray(RIGHT[::-1])}))
    return RoundJobs(Experiment(model=PERSONAL), model.blueprint("two layers"), fleet, values, {1: "float32"})


def test_judges_every_head_that_was_trained(engine: InProcessEngine, round_jobs: RoundJobs) -> None:
    judged = list(evaluate_personal_heads(engine, round_jobs, version=7, round=2, stopped=lambda: False))
    correct = {(reply.device, reply.depth): reply.sums.exits[1]["correct"] for reply in judged}
    assert correct == {("a", 1): (1.0, 1.0), ("b", 1): (0.0, 0.0)}


def test_leaves_out_a_head_of_a_later_round(engine: InProcessEngine, round_jobs: RoundJobs) -> None:
    judged = evaluate_personal_heads(engine, round_jobs, version=7, round=1, stopped=lambda: False)
    assert [reply.device for reply in judged] == ["a"]


def test_stops_when_the_simulation_does(engine: InProcessEngine, round_jobs: RoundJobs) -> None:
    with pytest.raises(SimulationStoppedError):
        list(evaluate_personal_heads(engine, round_jobs, version=7, round=2, stopped=lambda: True))
