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
from fedlp_edge.wire.broadcast_encoding import encode_weights
from fedlp_edge.wire.tensors import pack
from tests.simulation.conftest import experiment

UNIT = Unit("L1", "a", "layer", 1, (TensorSpec("L1.w", (2, 64)), TensorSpec("L1.b", (2,))))
MASKED = Unit("H1", "b", "head", 1, (TensorSpec("H1.w", (2,)),), (TensorSpec("H1.mask", (4,), "constant"),))
BLUEPRINT = Blueprint("tiny", (1,), 2, "shared", (UNIT, MASKED), (DepthCost(1, 132, 1, 1),))
WEIGHTS = {
    "L1.w": np.sin(np.arange(128, dtype=np.float32)).reshape(2, 64),
    "L1.b": np.ones(2, dtype=np.float32),
    "H1.w": np.ones(2, dtype=np.float32),
}


class Published(dict[int, Mapping[str, Array]]):
    """What an engine was given."""

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        self[version] = weights


@pytest.mark.parametrize(
    ("encoding", "step"), [("none", 0.0), ("fp16", 5e-4), ("int8", 0.004), ("int4", 0.08), ("int4+zstd", 0.08)]
)
def test_values_and_bytes_are_those_of_the_encoding(encoding: BroadcastEncoding, step: float) -> None:
    engine = Published()
    publisher = ModelPublisher(cast("Engine", engine), BLUEPRINT, encoding)
    publisher.publish(0, WEIGHTS)
    assert publisher.lacking("a", 0, (UNIT,)) == len(encode_weights(UNIT.tensors, WEIGHTS, encoding))
    assert publisher.exact == (encoding == "none")
    error = np.abs(engine[0]["L1.w"] - WEIGHTS["L1.w"]).max()
    assert step / 4 <= error <= step
    np.testing.assert_array_equal(engine[0]["L1.b"], WEIGHTS["L1.b"])


def changed_weights(version: int) -> Mapping[str, Array]:
    """H1 changes in every version, and L1 in the second."""
    last = {"H1.w": np.full(2, float(version), dtype=np.float32)}
    return {**WEIGHTS, **last} | ({"L1.b": np.zeros(2, dtype=np.float32)} if version >= 2 else {})


L1, H1, MASK = (len(pack({spec.name: np.zeros(spec.shape, np.float32) for spec in specs}))
                for specs in (UNIT.tensors, MASKED.tensors, MASKED.constants))  # fmt: skip
"""Bytes of the blobs in float32."""


def test_device_downloads_what_it_has_not_got_from_its_task_before() -> None:
    publisher = ModelPublisher(cast("Engine", Published()), BLUEPRINT, "none")
    units, found = (UNIT, MASKED), []
    for version in range(4):
        publisher.publish(version, changed_weights(version))
        if version != 1:  # in which the device sits out
            found.append(publisher.lacking("a", version, units))
            publisher.note_downloaded("a", version, units)
    assert found == [L1 + H1 + MASK, L1 + H1, H1]
    assert publisher.lacking("a", 3, units) == 0
    assert publisher.lacking("b", 3, units) == L1 + H1 + MASK
    assert publisher.lacking("a", 1, units) == L1 + H1  # an older task, whose version it has no more
    assert [publisher.changed(version) for version in range(4)] == [
        {"L1": L1, "H1": H1},
        {"H1": H1},
        {"L1": L1, "H1": H1},
        {"H1": H1},
    ]


@pytest.mark.parametrize("encoding", ["none", "int4+zstd"])
def test_counts_on_after_an_interruption(encoding: BroadcastEncoding) -> None:
    publishers = [ModelPublisher(cast("Engine", Published()), BLUEPRINT, encoding) for _ in range(2)]
    whole, resumed = publishers
    for version in range(3):
        whole.publish(version, changed_weights(version))
        if version:
            resumed.restore(version, whole.changed(version))
    resumed.publish(2, changed_weights(2))
    for publisher in publishers:
        publisher.note_downloaded("a", 1, (UNIT, MASKED))
        publisher.publish(3, changed_weights(3))
    for device, version in (("a", 2), ("a", 3), ("b", 3)):
        assert whole.lacking(device, version, (UNIT, MASKED)) == resumed.lacking(device, version, (UNIT, MASKED))
    assert whole.changed(3) == resumed.changed(3)


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
