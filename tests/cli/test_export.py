from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from fedlp_edge.cli.main import app


def test_says_that_a_run_scaled_by_width_is_not_for_devices(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "round-00001.safetensors").touch()
    (run / "config.toml").write_text('name = "wide"\n[fleet]\ndevices = 5\n[model]\nscaling = "width"\n')
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "onnx")])
    assert "baseline for comparisons" in str(done.exception)
    assert not (tmp_path / "onnx").exists()
