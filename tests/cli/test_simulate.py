"""``fedlp simulate`` in this process, on runs that need no worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlp_edge.cli.simulate import run_simulate
from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.errors import ConfigError, DataError
from fedlp_edge.reporting.summary import DeviceRound, FinalModel, RoundSummary, Summary, save
from fedlp_edge.simulation.experiment import load_experiment

EXPERIMENT = """
[model]
name = "mlp"
input = [1, 8, 8]
[data]
train = "digits"
evaluate = "digits"
[rounds]
count = 1
[simulation]
workers = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def finished(file: Path, tmp_path: Path) -> Path:
    """Directory of a finished run of the experiment."""
    run = load_experiment(file)
    device = DeviceRound(id="sim-0", profile="", depth=3, lpr=1.0, status="contributed")
    entry = RoundSummary(
        round=1, seconds=2.0, accuracy={3: 0.5}, ensemble={3: 0.6}, tiers={3: 0.4}, devices=(device,), coverage={}
    )
    final = FinalModel(accuracy={3: 0.5}, model_digest="d" * 64, round=1)
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "config.toml").write_text(to_toml(run))
    save(
        Summary(run=run.run_name, fleet=run.name, model="mlp", rounds=(entry,), final=final), directory / "summary.json"
    )
    return directory


def test_finished_run_is_one_object_as_json(file: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_simulate(file, finished, None, None, quiet=False, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "run": load_experiment(file).run_name,
        "directory": str(finished),
        "rounds": 1,
        "seconds": 2.0,
        "accuracy": {"3": 0.5},
        "answer": "exit",
        "exits": {},
        "ensemble": {"3": 0.6},
        "tiers": {"3": 0.4},
        "model_digest": "d" * 64,
    }


def test_quiet_run_says_nothing_and_another_engine_is_no_other_run(
    file: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_simulate(file, finished, "ray", 7, quiet=True, as_json=False) == 0
    assert capsys.readouterr().out == ""


def test_wrong_key_is_named_with_its_line(file: Path, tmp_path: Path) -> None:
    file.write_text(EXPERIMENT + "devices = 3\n")
    with pytest.raises(ConfigError, match=r"experiment\.toml:12: "):
        run_simulate(file, tmp_path / "run", None, None, quiet=True, as_json=False)


def test_wrong_data_are_named(file: Path, tmp_path: Path) -> None:
    file.write_text(EXPERIMENT.replace('evaluate = "digits"', 'evaluate = "digit"'))
    with pytest.raises((ConfigError, DataError), match="digit"):
        run_simulate(file, tmp_path / "run", None, None, quiet=True, as_json=False)
