from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import FleetConfig, load_config
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.errors import ConfigError
from fedlp_edge.simulation.experiment import load_experiment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nheads = 'personal'\n", ":3: [model] heads is now [model] head_mode"),
        ("[scheme]\nlpr = 0.5\nencoding = 'int8'\n", ":4: [scheme] encoding is now [update] encoding"),
        ("[scheme]\nupload_budget = 5\n", ":3: [scheme] upload_budget is now [update] budget"),
        ("[scheme]\nmemory_margin = 0.1\n", ":3: [scheme] memory_margin is now [planner] memory_margin"),
        ("[scheme]\nlevers = []\n", ":3: [scheme] levers is now [planner] techniques"),
        ("[scheme]\ntechniques = []\n", ":3: [scheme] techniques is now [planner] techniques"),
        ("[scheme]\nclimb_after = 3\n", ":3: [scheme] climb_after is now [planner] promote_after_rounds"),
        (
            "[training]\n[training.thrift]\nallocation = 'roomy'\n",
            ':3: [training.thrift] is now [training.memory], and its allocation = "roomy" is allocator = "cached"',
        ),
        (
            "[training.memory]\nallocation = 'roomy'\n",
            ':3: [training.memory] allocation is now [training.memory] allocator, and its "roomy" is "cached"',
        ),
        # The first one in the file, whatever is wrong further down.
        ("[scheme]\nlevers = []\nencoding = 1\n", ":3: [scheme] levers is now [planner] techniques"),
        ("scheme.encoding = 'int8'\n", ":2: [scheme] encoding is now [update] encoding"),
    ],
)
def test_names_the_new_key_and_where_the_old_one_stands(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "old.toml"
    path.write_text(f'fleet = "home"\n{text}')
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}{message}"
    path.write_text(f'name = "home"\n{text}')
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert str(caught.value) == f"{path}{message}"


@pytest.mark.parametrize("old", RENAMED)
def test_old_names_are_not_used_again(old: tuple[str, ...]) -> None:
    *tables, key = old
    table = FleetConfig(fleet="home")
    for name in tables:
        table = getattr(table, name)
    assert isinstance(table, msgspec.Struct)
    assert key not in table.__struct_fields__
