"""The experiments that come with the documentation, and what the commands make of a simulated run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from fedlp_edge.cli.main import app
from fedlp_edge.simulation import LocalEngine, load_experiment, simulate
from tests.simulation.conftest import experiment

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_loads_every_example(path: Path) -> None:
    assert load_experiment(path).name == path.stem


def test_runs_an_example(tmp_path: Path, engine: LocalEngine) -> None:
    example = load_experiment(next(path for path in EXAMPLES if path.stem == "stragglers"))
    short = msgspec.structs.replace(example, rounds=msgspec.structs.replace(example.rounds, count=2))
    summary = simulate(short, tmp_path, engine=engine)
    assert [sum(d.status == "contributed" for d in entry.devices) for entry in summary.rounds] == [6, 6]


def test_shows_and_exports_a_simulated_run(tmp_path: Path, engine: LocalEngine) -> None:
    simulate(experiment(), tmp_path / "run", engine=engine)
    shown = CliRunner().invoke(app, ["status", str(tmp_path / "run")])
    assert shown.exit_code == 0
    assert "own classes" in shown.stdout
    made = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--out", str(tmp_path / "onnx"), "--depth", "1"])
    assert made.exit_code == 0, made.output
    assert [file.name for file in (tmp_path / "onnx").iterdir()] == ["mlp-depth-1.onnx"]
