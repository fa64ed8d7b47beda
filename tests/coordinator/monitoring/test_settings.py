from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import load_config
from fedlp_edge.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(f'fleet = "shop"\n[monitoring]\n{text}\n')
    return path


@pytest.mark.parametrize(
    ("text", "is_on"), [("", False), ("topic = true", True), ("home_assistant = true", True), ("topic = false", False)]
)
def test_nothing_is_published_unless_it_is_asked_for(tmp_path: Path, text: str, is_on: bool) -> None:
    config = load_config(written(tmp_path, text))
    assert config.monitoring.is_on == is_on
    assert config.identity == load_config(written(tmp_path, "")).identity  # a run may begin to be watched at any time


@pytest.mark.parametrize("prefix", ["", "a/#", "home assistant", "/a", "a//b", "+"])
def test_prefix_is_levels_of_a_topic(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"fleet.toml:3: .*discovery_prefix"):
        load_config(written(tmp_path, f'discovery_prefix = "{prefix}"'))
