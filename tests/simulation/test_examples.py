"""The experiments that come with the documentation, and what the commands make of a simulated run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from fedlp_edge.cli.main import app
from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.export.inference import Classifier, Prediction
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
    written = {file.name for file in (tmp_path / "onnx").iterdir()}
    assert written == {"mlp-depth-1.onnx", "mlp-depth-1.selftest.npz", "card.json", "card.md", "card.png"}


@pytest.mark.parametrize(("head_mode", "depth"), [("shared", 1), ("personal", 5)])
def test_exported_files_answer_as_rightly_as_the_report_says(
    tmp_path: Path, engine: LocalEngine, head_mode: HeadMode, depth: int
) -> None:
    changed = experiment(model=ModelSettings(name="small-cnn", input=(1, 8, 8), head_mode=head_mode))
    mix = (0.5, 0.0, 0.0, 0.0, 0.5)
    changed = msgspec.structs.replace(changed, fleet=msgspec.structs.replace(changed.fleet, depth_mix=mix))
    reported = simulate(changed, tmp_path / "run", engine=engine).rounds[-1].accuracy
    test, samples = load_data("digits", "test"), []
    for number, x in enumerate(test.stored()):
        samples.append(tmp_path / f"{number}.npy")
        np.save(samples[-1], x.numpy())
    made = CliRunner().invoke(
        app, ["export", str(tmp_path / "run"), "--out", str(tmp_path / "onnx"), "--depth", str(depth)]
    )
    assert made.exit_code == 0, made.output
    answers = Classifier(tmp_path / "onnx" / f"small-cnn-depth-{depth}.onnx").predict_all(samples)
    labels = [answer.label for _, answer in answers if isinstance(answer, Prediction)]
    right = sum(label == test.classes[y] for label, y in zip(labels, test.y.tolist(), strict=True))
    assert right / len(test) == pytest.approx(reported[depth], abs=1.5 / len(test))  # a tie may fall either way
    assert right / len(test) > 0.15
