"""The documentation is checked against the code: keys, defaults, formats, links, examples."""

from __future__ import annotations

import json
import re
from operator import attrgetter
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml
from msgspec import inspect
from typer.testing import CliRunner

from coordinator.config import FleetConfig, load_config
from fedlp_edge.cli.main import app
from fedlp_edge.config.toml import parse_toml
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.summary import DeviceRound, FinalModel, RoundSummary, Summary
from fedlp_edge.worker.jobs import ExportedModel

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def documented_settings() -> dict[str, dict[str, str]]:
    """Default by key, by table ("" for the top level), as docs/configuration.md has them."""
    tables: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in page("docs/configuration.md").splitlines():
        if line.startswith("## "):
            name = re.fullmatch(r"## (?:`\[([\w.]+)\]`|.*)", line)
            current = tables.setdefault((name and name[1]) or "", {})
        elif row := re.match(r"\| `(\w+)` \| (.*?) \|", line):
            current[row[1]] = row[2].strip("`")
    return tables


def settings_of(kind: inspect.Type) -> dict[str, object]:
    assert isinstance(kind, inspect.StructType)
    return {field.encode_name: field.default for field in kind.fields if not isinstance(field.type, inspect.StructType)}


def tables_of(kind: inspect.Type, name: str = "") -> dict[str, set[str]]:
    """Keys by table, of a struct and of the structs in it."""
    assert isinstance(kind, inspect.StructType)
    tables = {name: set(settings_of(kind))}
    for field in kind.fields:
        if isinstance(field.type, inspect.StructType):
            tables |= tables_of(field.type, f"{name}.{field.encode_name}".lstrip("."))
    return tables


def test_configuration_page_has_every_key_and_no_other() -> None:
    expected = tables_of(inspect.type_info(FleetConfig))

    assert {table: set(keys) for table, keys in documented_settings().items()} == expected


def test_configuration_page_has_the_right_defaults() -> None:
    defaults = parse_toml('fleet = "x"', FleetConfig, "fleet.toml")
    for table, keys in documented_settings().items():
        struct = attrgetter(table)(defaults) if table else defaults
        for key, documented in keys.items():
            value = getattr(struct, key)
            if value is None or (table, key) == ("", "fleet"):
                continue
            assert json.loads(documented) == json.loads(msgspec.json.encode(value)), f"[{table}] {key}"


@pytest.mark.parametrize("kind", [Summary, RoundSummary, DeviceRound, FinalModel, ExportedModel])
def test_run_directory_page_has_every_key_of_the_summary(kind: type[msgspec.Struct]) -> None:
    text = page("docs/run-directory.md")

    missing = [key for key in kind.__struct_fields__ if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_run_directory_page_has_every_event(kind: type[msgspec.Struct]) -> None:
    row = re.search(rf"^\| `{kind.__name__}` \| (.*)\|$", page("docs/run-directory.md"), re.MULTILINE)

    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == [key for key in kind.__struct_fields__ if key != "time"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["README.md", "docs/getting-started.md"])
def test_examples_of_a_fleet_are_valid(name: str) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)
    assert examples

    for example in examples:
        parse_toml(example, FleetConfig, name)


@pytest.mark.parametrize("name", ["README.md", "docs/getting-started.md", "docs/run-directory.md"])
def test_commands_and_flags_exist(name: str) -> None:
    for command, rest in re.findall(r"^fedlp (\w+)(.*)$", page(name), re.MULTILINE):
        help_text = CliRunner().invoke(app, [command, "--help"], terminal_width=200).output
        for flag in re.findall(r"\s(--[\w-]+)", rest):
            assert flag in help_text, f"fedlp {command} {flag}"


def test_fleet_in_containers_is_consistent() -> None:
    compose = yaml.safe_load(page("deploy/compose.yaml"))
    config = load_config(ROOT / "deploy" / "fleet.toml")

    agents = [service for name, service in compose["services"].items() if name.startswith("agent-")]
    assert len(agents) == config.rounds.min_devices == 2
    for agent in agents:
        assert f"--fleet={config.fleet}" in agent["command"]
        assert f"--broker={config.broker.url}" in agent["command"]
    files = [volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])]
    for file in files:
        assert file in compose["volumes"] or (ROOT / "deploy" / file).is_file()
