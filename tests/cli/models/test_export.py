from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlp_edge.cli.main import app
from fedlp_edge.cli.models import export as command
from fedlp_edge.cli.models.export import make_writable, run_export
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.errors import ConfigError, ExportError
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build, Built, Exported, ExportedModel, RefusedModel, WorkerOptions
from tests.fleets.standin import blueprint


def test_says_that_a_run_scaled_by_width_is_not_for_devices(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "round-00001.safetensors").touch()
    (run / "config.toml").write_text('name = "wide"\n[fleet]\ndevices = 5\n[model]\nscaling = "width"\n')
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "onnx")])
    assert "baseline for comparisons" in str(done.exception)
    assert not (tmp_path / "onnx").exists()


def a_run(directory: Path) -> Path:
    run = directory / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "round-00001.safetensors").touch()
    (run / "config.toml").write_text('fleet = "shop"\n')
    return run


class Worker:
    """Answers as it is told; trains and loads nothing."""

    exported = Exported(models=())

    def __init__(self, options: WorkerOptions) -> None:
        pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        return Built(blueprint=self.model) if isinstance(job, Build) else self.exported

    @property
    def model(self) -> Blueprint:
        return blueprint()


def exporting(monkeypatch: pytest.MonkeyPatch, *models: ExportedModel, refused: tuple[RefusedModel, ...]) -> None:
    class Answering(Worker):
        exported = Exported(models=models, refused=refused)

    monkeypatch.setattr(command, "WorkerProcess", Answering)


def test_names_the_depth_that_was_refused_and_writes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ExportedModel("net-depth-1.onnx", 1, 1e-6, 0.5)
    exporting(monkeypatch, made, refused=(RefusedModel(2, "no operator for [this]"),))
    assert run_export(a_run(tmp_path), "all", tmp_path / "onnx", None) == EXIT_INCOMPLETE
    printed = capsys.readouterr()
    assert "net-depth-1.onnx: depth 1, round 1" in printed.out
    assert "error: depth 2 has no ONNX file: no operator for [this]" in printed.err


def test_fails_where_no_depth_can_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporting(monkeypatch, refused=(RefusedModel(1, "no operator"),))
    with pytest.raises(ExportError, match="no operator"):
        run_export(a_run(tmp_path), "1", tmp_path / "onnx", None)


def test_out_that_is_a_file_is_said_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(ConfigError, match=r"results: it is a file, and a directory is wanted; name another directory"):
        run_export(a_run(tmp_path), "all", tmp_path / "results", None)
    assert (tmp_path / "results").read_text() == "mine"


def test_out_below_a_file_or_named_like_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        make_writable(tmp_path / "file" / "onnx")
    with pytest.raises(ConfigError, match="every depth has a file of its own"):
        make_writable(tmp_path / "model.onnx")


def test_out_where_nothing_can_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the test may be run by somebody who may write anywhere
    with pytest.raises(ConfigError, match="it may not be written to"):
        make_writable(tmp_path)
