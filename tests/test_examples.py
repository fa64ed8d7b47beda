"""Every example's files are what the services accept, and name what is there."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator.config import FleetConfig, load_config
from device_agent.config import AgentConfig
from fedlp_edge.errors import FedLPError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.probe.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path.parent for path in ROOT.glob("*/fleet.toml"))


def run_script() -> Any:
    """Returns the script that runs an example as a module, which it is not."""
    spec = importlib.util.spec_from_file_location("run_example", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run = run_script()


def test_there_are_examples_and_each_is_introduced() -> None:
    assert [example.name for example in EXAMPLES] == ["activity", "inspection", "text", "weather"]
    introduction = (ROOT / "README.md").read_text()
    assert all(f"({example.name}/README.md)" in introduction for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_fleets_file_is_accepted(example: Path) -> None:
    config = load_config(example / "fleet.toml")
    assert isinstance(config, FleetConfig)
    assert parse_spec(config.data.evaluate).argument.startswith("data/test")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_each_device_is_accepted_and_keeps_to_a_profile_that_is_there(example: Path) -> None:
    text = (example / "devices.toml").read_text().replace("{example}", str(example))
    devices = tomllib.loads(text)
    assert len(devices) >= 3
    model = load_config(example / "fleet.toml").model.name
    for name, table in devices.items():
        config = msgspec.convert({"fleet": "f", "id": name, **table}, AgentConfig)
        assert config.data is not None
        assert parse_spec(config.data).argument.startswith(f"data/{name}")
        assert find_profile(config.profile).threads in (None, 1)
        if ":" in model:  # a model of the example's own, which each device has to allow
            assert config.allow_models == (model,)


def test_ci_runs_every_example() -> None:
    loop = next(
        line for line in (ROOT.parent / ".ci" / "run").read_text().splitlines() if line.startswith("for example in")
    )
    assert loop.removeprefix("for example in ").partition(";")[0].split() == [example.name for example in EXAMPLES]


def test_all_data_in_one_place_are_as_many_as_those_of_all_devices() -> None:
    devices = {"a": {"data": "csv:data/a.csv#target=y&limit=60"}, "b": {"data": "csv:data/b.csv#target=y&limit=60"}}
    assert run.in_one_place(devices) == "csv:data/all.csv#target=y&limit=120"
    assert run.with_option("npz:data/a.npz", "limit=60") == "npz:data/a.npz#limit=60"


@pytest.mark.parametrize(
    ("metric", "alone", "one_place"), [("accuracy", "better", "worse"), ("rmse", "worse", "better")]
)
def test_distances_say_what_is_better_by_the_metric(
    metric: str, alone: str, one_place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"the fleet": 0.75, "all data in one place": 0.875, "a alone": 0.5, "b alone": 0.25}
    run.print_distances({name: {metric: value} for name, value in values.items()})
    assert f"0.375 {alone} than its devices alone, and 0.125 {one_place} than all data" in capsys.readouterr().out


def test_a_wrong_name_is_told_with_the_right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "wether"])
    with pytest.raises(FedLPError, match='no example "wether": name one of activity, inspection, text, weather'):
        run.main()


def test_a_directory_is_for_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        run.working_directory(Path("out")),
        pytest.raises(FedLPError, match="an example is running in"),
        run.working_directory(tmp_path / "out"),
    ):
        raise AssertionError


def test_commands_that_are_printed_begin_with_the_directory_that_they_go_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with run.working_directory(Path("runs") / "my weather"):
        assert Path.cwd() == tmp_path / "runs" / "my weather"
    assert capsys.readouterr().out == "$ cd 'runs/my weather'\n"


def test_data_are_prepared_anew_when_the_example_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = tmp_path / "example"
    example.mkdir()
    script = example / "prepare.py"
    for written in ("one", "two"):
        script.write_text(
            f"import pathlib\npathlib.Path('data').mkdir()\npathlib.Path('data/{written}').touch()\n", "utf-8"
        )
        run.prepare(example)
        run.prepare(example)  # with directories that are there, the script would fail
    assert sorted(path.name for path in Path("data").iterdir()) == ["done", "two"]
