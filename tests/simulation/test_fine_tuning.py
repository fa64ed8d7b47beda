"""Start weights and frozen layers in simulated runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from fedlp_edge.cli.simulate import run_simulate
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, OperatorError
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.storage.checkpoints import Checkpoints
from tests.simulation.conftest import experiment
from tests.simulation.test_run import digest

MODEL = ModelSettings(name="mlp", input=(1, 8, 8), classes=10, freeze=("hidden1",))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(build_model(MODEL, seed=9).original_state_dict(), path)
    return path


def test_a_stopped_run_goes_on_from_a_moved_file_to_the_same_model(
    weights: Path, tmp_path: Path, engine: LocalEngine
) -> None:
    run = experiment(model=msgspec.structs.replace(MODEL, weights=str(weights)))
    expected = simulate(run, tmp_path / "undisturbed", engine=engine)
    assert expected.start_weights is not None
    assert len(expected.start_weights.taken) == 8

    moved = tmp_path / "moved.pt"
    moved.write_bytes(weights.read_bytes())
    rounds: list[object] = []
    with pytest.raises(SimulationStoppedError):
        simulate(run, tmp_path / "run", engine=engine, on_event=rounds.append,
                 stopped=lambda: any(type(event).__name__ == "RoundFinished" for event in rounds))  # fmt: skip
    again = experiment(model=msgspec.structs.replace(MODEL, weights=str(moved)))
    assert digest(simulate(again, tmp_path / "run", engine=engine)) == digest(expected)

    first, last = (Checkpoints(tmp_path / "run" / "checkpoints").load(round)[0] for round in (0, 2))
    theirs = torch.load(weights, weights_only=True)
    assert np.array_equal(first["L2.hidden2.fc.weight"], theirs["hidden2.fc.weight"].numpy())
    assert np.array_equal(last["L1.hidden1.fc.weight"], theirs["hidden1.fc.weight"].numpy())

    moved.write_bytes(moved.read_bytes() + b"\0")
    with pytest.raises(OperatorError, match="holds a run with other settings"):
        simulate(again, tmp_path / "run", engine=engine)
    moved.unlink()
    finished = simulate(again, tmp_path / "run", engine=engine)  # of a finished run only the summary is read
    assert digest(finished) == digest(expected)


def test_a_run_starts_from_an_earlier_one_of_other_classes(tmp_path: Path, engine: LocalEngine) -> None:
    earlier = build_model(ModelSettings(name="mlp", input=(1, 8, 8), classes=4), seed=9)
    state = {name: value.numpy() for name, value in earlier.state_dict().items()}
    Checkpoints(tmp_path / "earlier" / "checkpoints").save(2, state, ServerState())
    later = experiment(model=ModelSettings(name="mlp", input=(1, 8, 8), weights=f"run:{tmp_path / 'earlier'}"))
    report = simulate(later, tmp_path / "later", engine=engine).start_weights
    assert report is not None
    assert {name.rpartition(".")[0] for name in report.anew} == {"head", "H1.linear", "H2.linear"}
    began = Checkpoints(tmp_path / "later" / "checkpoints").load(0)[0]
    assert np.array_equal(state["L1.hidden1.fc.weight"], began["L1.hidden1.fc.weight"])


def test_a_run_of_as_many_other_classes_gives_no_head_if_heads_are_reset(tmp_path: Path, engine: LocalEngine) -> None:
    earlier = build_model(ModelSettings(name="mlp", input=(1, 8, 8)), seed=9)
    state = {name: value.numpy() for name, value in earlier.state_dict().items()}
    Checkpoints(tmp_path / "earlier" / "checkpoints").save(2, state, ServerState())
    model = ModelSettings(name="mlp", input=(1, 8, 8), weights=f"run:{tmp_path / 'earlier'}", reset_heads=True)
    later = experiment(model=model)
    report = simulate(later, tmp_path / "later", engine=engine).start_weights
    assert report is not None
    assert set(report.anew.values()) == {"reset_heads"}
    began = Checkpoints(tmp_path / "later" / "checkpoints").load(0)[0]
    fresh = build_model(model.without_weights, seed=later.seed).state_dict()
    assert np.array_equal(state["L3.hidden3.fc.weight"], began["L3.hidden3.fc.weight"])
    assert np.array_equal(fresh["H3.head.weight"].numpy(), began["H3.head.weight"])


@pytest.mark.parametrize(
    ("weights", "reason"), [("absent.pt", "there is no file absent.pt"), (__file__, "is no file of weights")]
)
def test_says_once_where_start_weights_are_wrong(
    tmp_path: Path, weights: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(f'[model]\nname = "mlp"\ninput = [1, 8, 8]\nweights = "{weights}"\n[data]\ntrain = "digits"\n'
                    'evaluate = "digits"\n[simulation]\nworkers = 1\n')  # fmt: skip
    with pytest.raises(ConfigError, match=rf"experiment.toml:4: \[model\] weights: .*{reason}"):
        run_simulate(file, tmp_path / "run", None, None, quiet=False, as_json=False)
    assert reason not in capfd.readouterr().out.replace("\n", " ")
