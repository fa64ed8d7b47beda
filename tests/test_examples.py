"""Every example's files are what the services accept, and name what is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from coordinator.config import FleetConfig, load_config
from device_agent.config import AgentConfig
from fedlp_edge.learning.data.spec import parse_spec
from fedlp_edge.probe.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path.parent for path in ROOT.glob("*/fleet.toml"))


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
