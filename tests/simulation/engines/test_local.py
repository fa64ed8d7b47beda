"""The processes of the local engine, shared with all tests of simulations."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.simulation.engines.base import QueuedJob, collect_sums, run_jobs
from fedlp_edge.simulation.engines.jobs import DeviceTrained, TrainDevice
from fedlp_edge.simulation.engines.local import LocalEngine
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from tests.simulation.in_process import SAMPLES, SETUP
from tests.two_layers import LAYERS, ONE_STEP, VALUES

EVERYTHING = np.arange(4)


def simulation_data(**changes: object) -> SimulationData:
    arrays = {name: array for name, array in SAMPLES.items() if "/" in name} | changes
    return SimulationData(arrays, 2, 1.0, (0.0,), (1.0,), np.zeros(4, np.int64), EVERYTHING)  # type: ignore[arg-type]


ASSIGNMENT = DataAssignment({name: SAMPLES[name] for name in ("members", "starts")}, np.ones((2, 2)) / 2)
JOBS = [
    QueuedJob(TrainDevice(number, f"d{number}", 1, 3, 4, 2, LAYERS, "none", training=ONE_STEP, most=2), 1.0)
    for number in range(2)
]


def test_opens_an_experiment_with_the_initial_values(engine: LocalEngine) -> None:
    opened = engine.open(SETUP, simulation_data(), ASSIGNMENT)
    assert opened.blueprint.full_depth == 2
    assert {name: array.tolist() for name, array in opened.weights.items()} == VALUES
    assert engine.workers == 2


def test_workers_share_versions_and_have_sums_of_their_own(engine: LocalEngine) -> None:
    opened = engine.open(SETUP, simulation_data(), ASSIGNMENT)
    engine.publish(3, opened.weights)
    replies = list(run_jobs(engine, JOBS, lambda: False))
    assert sorted(reply.device for reply in replies if isinstance(reply, DeviceTrained)) == ["d0", "d1"]
    sums = [arrays.sums["L1.weight"].copy() for arrays in collect_sums(engine, 4)]
    assert len(sums) == 2
    assert sums[0].tolist() == sums[1].tolist()
    engine.retire(3)
    assert list(collect_sums(engine, 4)) == []


def test_goes_on_after_an_experiment_whose_data_do_not_fit(engine: LocalEngine) -> None:
    wide = simulation_data(**{"train/x": np.ones((4, 3), np.float32)})
    with pytest.raises(DataError, match="the samples have shape 3 but the model takes 1"):
        engine.open(SETUP, wide, ASSIGNMENT)
    assert engine.open(SETUP, simulation_data(), ASSIGNMENT).blueprint.full_depth == 2
