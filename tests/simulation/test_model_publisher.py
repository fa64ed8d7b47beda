"""Workers get the weights that devices would decode, and the books the bytes that these would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import BroadcastEncoding, SchemeSettings, TrainingSettings, UpdateSettings
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.base import Engine
from fedlp_edge.simulation.experiment import FleetSettings
from fedlp_edge.simulation.model_publisher import ModelPublisher
from tests.simulation.conftest import experiment

UNIT = Unit("L1", "a", "layer", 1, (TensorSpec("L1.w", (2, 64)), TensorSpec("L1.b", (2,))))
BLUEPRINT = Blueprint("tiny", (1,), 2, "shared", (UNIT,), (DepthCost(1, 130, 1, 1),))
WEIGHTS = {"L1.w": np.sin(np.arange(128, dtype=np.float32)).reshape(2, 64), "L1.b": np.ones(2, dtype=np.float32)}


class Published(dict[int, Mapping[str, Array]]):
    """What an engine was given."""

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        self[version] = weights


@pytest.mark.parametrize(
    ("encoding", "nbytes", "step"),
    [("none", 520, 0.0), ("fp16", 260, 5e-4), ("int8", 128 + 8 + 8, 0.004), ("int4", 64 + 8 + 8, 0.08)],
)
def test_values_and_bytes_are_those_of_the_encoding(encoding: BroadcastEncoding, nbytes: int, step: float) -> None:
    engine = Published()
    publisher = ModelPublisher(cast("Engine", engine), BLUEPRINT, encoding)
    publisher.publish(3, WEIGHTS)
    assert publisher.nbytes(3, UNIT) == nbytes
    assert publisher.exact == (encoding == "none")
    error = np.abs(engine[3]["L1.w"] - WEIGHTS["L1.w"]).max()
    assert step / 4 <= error <= step
    np.testing.assert_array_equal(engine[3]["L1.b"], WEIGHTS["L1.b"])


def test_compressed_bytes_are_measured() -> None:
    publisher = ModelPublisher(cast("Engine", Published()), BLUEPRINT, "none+zstd")
    publisher.publish(1, {"L1.w": np.zeros((2, 64), dtype=np.float32), "L1.b": WEIGHTS["L1.b"]})
    assert publisher.nbytes(1, UNIT) < 250
    assert publisher.nbytes(2, UNIT) == 520  # not published by this process
    assert publisher.exact


PROFILE = """
name = "far-away"
description = "on a slow link"
ram_mb = 2000
link_mbit_per_second = {mbit}
"""


def test_the_slowest_link_of_the_fleet_decides_how_the_model_travels(tmp_path: Path, engine: LocalEngine) -> None:
    profile = tmp_path / "far-away.toml"
    profile.write_text(PROFILE.format(mbit=0.001))
    run = experiment(
        training=TrainingSettings(compute="float32"),
        scheme=SchemeSettings(depth="full"),
        rounds=RoundSettings(count=2, deadline_seconds=60),
        fleet=FleetSettings(devices=3, profiles={str(profile): 0.34, "laptop": 0.66}),
    )
    digests = []
    for broadcast in ("auto", "int4+zstd", "none"):
        update = UpdateSettings(broadcast=broadcast)
        summary = simulate(msgspec.structs.replace(run, update=update), tmp_path / broadcast, engine=engine)
        assert summary.final is not None
        digests.append(summary.final.model_digest)
    assert digests[0] == digests[1] != digests[2]
