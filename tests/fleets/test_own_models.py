"""Devices with heads of their own make their final models themselves, from the layers that everybody trained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from coordinator.config import ExportSettings
from fedlp_edge.core.settings import ServerSettings
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.wire.tensors import unpack_file
from fedlp_edge.worker.jobs import Export, Exported
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet

made: list[Export] = []
layers: list[dict[str, np.ndarray]] = []


class Watched(StandIn):
    """Notes what it exports."""

    def _export(self, job: Export) -> Exported:
        made.append(job)
        layers.append({name: value for path in job.state_paths for name, value in unpack_file(Path(path)).items()})
        return super()._export(job)


def fleet_of(directory: Path, **settings: object) -> VirtualFleet:
    made.clear()
    layers.clear()
    watched = {"dev-0": Watched, "dev-1": Watched}
    return VirtualFleet(directory, devices=2, head_mode="personal", worker=watched, **settings)  # type: ignore[arg-type]


def test_device_with_a_head_of_its_own_installs_a_model_with_it(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path)
    fleet.start_all()
    fleet.until_all_ended()  # the coordinator need not stay while a device makes its file
    summary = fleet.finish()

    # dev-0 is small and has depth 1; the whole model for dev-1 comes from the coordinator.
    (job,) = made
    assert job.depths == (1,)
    assert job.personal_path is not None
    assert Path(job.personal_path).name == f"{summary.run}-depth-1.round-2.safetensors"
    assert job.metadata == {"run": summary.run, "round": "2", "fleet": summary.fleet}
    assert len(job.state_paths) == 1
    for device, depth in (("dev-0", 1), ("dev-1", 2)):
        models = tmp_path / device / "models"
        assert (models / "current.onnx").resolve().name == f"{summary.run}-depth-{depth}.onnx"
    assert [model.depth for model in summary.onnx] == [2]


def test_device_makes_no_model_where_none_is_wanted(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path)
    fleet.config = msgspec.structs.replace(fleet.config, export=ExportSettings(depths="full"))
    fleet.start_all()
    fleet.finish()

    assert made == []
    assert not (tmp_path / "dev-0" / "models").exists()
    assert (tmp_path / "dev-1" / "models" / "current.onnx").is_file()


def test_device_makes_its_model_from_the_running_average_if_the_run_keeps_one(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path)
    fleet.config = msgspec.structs.replace(fleet.config, server=ServerSettings(ema=0.5))
    fleet.start_all()
    fleet.finish()

    checkpoints = Checkpoints(fleet.run / "checkpoints", 0)
    average = unpack_file(checkpoints.evaluated_path(2))
    last, _ = checkpoints.load(2)
    (given,) = layers
    assert given.keys() == {"l1.weight"}
    assert np.array_equal(given["l1.weight"], average["l1.weight"])
    assert not np.array_equal(given["l1.weight"], last["l1.weight"])
