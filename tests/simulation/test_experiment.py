from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.simulation.experiment import (
    Experiment,
    FleetSettings,
    SimulatedData,
    SimulationSettings,
    load_experiment,
)
from tests.simulation.conftest import experiment


def test_evaluates_now_and_then_and_at_the_end() -> None:
    settings = SimulationSettings(evaluate_every=4, evaluate_last=2)
    run = Experiment(rounds=RoundSettings(count=11), simulation=settings)
    assert [round for round in range(1, 12) if run.is_evaluated(round)] == [4, 8, 10, 11]
    blind = msgspec.structs.replace(run, data=SimulatedData(evaluate=""))
    assert not any(blind.is_evaluated(round) for round in range(1, 12))


def test_is_another_run_only_if_something_else_is_learned() -> None:
    run = Experiment()
    alike = [
        Experiment(name="other"),
        Experiment(rounds=RoundSettings(count=7, keep_checkpoints=9)),
        Experiment(simulation=SimulationSettings(workers=3, evaluate_every=5)),
    ]
    assert {other.identity for other in alike} == {run.identity}
    changed = [
        Experiment(seed=2),
        Experiment(rounds=RoundSettings(devices_per_round=7)),
        Experiment(fleet=FleetSettings(dropout=0.1)),
        Experiment(data=SimulatedData(partition="dirichlet:0.5")),
    ]
    assert len({run.identity, *(other.identity for other in changed)}) == 5


def test_names_a_run_by_its_experiment_and_identity() -> None:
    run = Experiment(name="x" * 60)
    assert run.run_name == "x" * 48 + "-" + run.identity[:12]


def test_reads_a_file_and_fills_in_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "simulation.toml"
    path.write_text('name = "small"\n[fleet]\ndevices = 4\nprofiles = { class-xs = 0.25, class-l = 0.75 }\n')
    assert load_experiment(path) == Experiment(
        name="small", fleet=FleetSettings(devices=4, profiles={"class-xs": 0.25, "class-l": 0.75})
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fleet]\ndepth_mix = [0.5, 0.4]\n", "the shares of depth_mix sum to 0.9; they must sum to 1"),
        ("[fleet]\nprofiles = { class-l = 2.0 }\n", "the shares of profiles sum to 2; they must sum to 1"),
        ("[fleet]\ndepth_draw = true\n", "depth_draw draws from depth_mix, which is missing"),
        (
            "[fleet]\ndevices = 2\n[rounds]\nmin_devices = 3\n",
            "rounds.min_devices (3) is more than fleet.devices (2)",
        ),
    ],
)
def test_refuses_a_fleet_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "simulation.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_experiment(path)
    assert message in str(refused.value)


def test_writes_settings_that_read_back_the_same() -> None:
    run = experiment()
    text = to_toml(run)
    assert msgspec.convert(tomllib.loads(text), type(run)) == run
    assert "seed = 1" in text.splitlines()
    assert "[fleet]" in text.splitlines()


def test_a_gpu_is_for_the_workers_of_this_machine() -> None:
    assert SimulationSettings(device="cuda").device == "cuda"
    with pytest.raises(ValueError, match="ask for no GPU"):
        SimulationSettings(engine="ray", device="auto")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('partition = "groups"', "data: partition: partition 'groups' is unknown: use iid, "),
        ('evaluate = "digit"', "data: evaluate: data 'digit' is unknown: use digits, "),
        ('train = ""', "data: train: data '' is unknown: use digits, "),
    ],
)
def test_names_file_and_line_of_data_that_nobody_can_read(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'name = "a"\n[model]\nname = "mlp"\ninput = [2]\nclasses = 2\n[data]\n{line}\n')
    with pytest.raises(ConfigError) as said:
        load_experiment(path)
    assert str(said.value).startswith(f"{path}:7: {words}")
