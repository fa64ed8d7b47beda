"""The coordinator tries the export of models that nobody has exported yet, before any device is asked for anything."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import FleetConfig
from coordinator.final import export_trial
from coordinator.final.export_trial import try_export
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import SettingError, WorkerError
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.worker.jobs import AnyJob, AnyResult, ExportTried, RefusedModel, TryExport
from tests.fleets.standin import blueprint

OWN = FleetConfig(fleet="f", model=ModelSettings(name="mine:net", input=(4,), classes=2))


class Worker:
    """Answers a trial as it is told to."""

    def __init__(self, *refused: RefusedModel, error: Exception | None = None) -> None:
        self.refused, self.error = refused, error
        self.asked: list[tuple[int, ...]] = []
        self.stopped = False

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        assert isinstance(job, TryExport)
        assert timeout
        self.asked.append(job.depths)
        if self.error:
            raise self.error
        return ExportTried(refused=self.refused)

    def stop(self) -> None:
        self.stopped = True


def run(tmp_path: Path, worker: Worker, config: FleetConfig = OWN) -> str:
    return try_export(config, blueprint(), RunDirectory.open(tmp_path / "run"), worker)  # type: ignore[arg-type]


def exporting(depths: object) -> FleetConfig:
    return msgspec.structs.replace(OWN, export=msgspec.structs.replace(OWN.export, depths=depths))


def test_a_run_whose_model_cannot_be_exported_is_refused_with_what_to_set(tmp_path: Path) -> None:
    worker = Worker(RefusedModel(2, "depth 2: no operator"))
    with pytest.raises(SettingError) as caught:
        run(tmp_path, worker)
    assert caught.value.key == ("export", "depths")
    assert str(caught.value) == (
        "depth 2: no operator; a trial before the first round has shown that. Change the model, or set "
        'depths = "none" to learn without ONNX files, or depths = [1], which can be exported'
    )
    assert worker.stopped
    with pytest.raises(SettingError, match=r"depth 1: no operator \(depths 1, 2\); .* without ONNX files$"):
        run(tmp_path, Worker(RefusedModel(1, "depth 1: no operator"), RefusedModel(2, "depth 2: no operator")))


@pytest.mark.parametrize(("depths", "asked"), [("all", [(1, 2)]), ("full", [(2,)]), ((1, 7), [(1,)]), ("none", [])])
def test_what_will_be_exported_is_tried(tmp_path: Path, depths: object, asked: list[tuple[int, ...]]) -> None:
    worker = Worker()
    assert run(tmp_path, worker, exporting(depths)) == ""
    assert worker.asked == asked


def test_a_model_that_has_a_name_here_is_not_tried(tmp_path: Path) -> None:
    for name in ("small-cnn", "torchvision:resnet18"):
        worker = Worker()
        run(tmp_path, worker, msgspec.structs.replace(OWN, model=ModelSettings(name=name, input=(4,), classes=2)))
        assert not worker.asked


def test_a_trial_that_comes_to_nothing_is_a_remark(tmp_path: Path) -> None:
    said = run(tmp_path, Worker(error=WorkerError("the worker was killed")))
    assert said == "whether the model can be exported was not found out before the first round: the worker was killed"


def test_missing_packages_are_said_before_the_first_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_trial, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(SettingError, match=r'exporting needs onnxscript: pip install "fedlp-edge\[coordinator\]"'):
        run(tmp_path, Worker())
    assert run(tmp_path, Worker(), exporting("none")) == ""
