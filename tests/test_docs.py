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

from coordinator.config import FleetConfig, load_config
from device_agent.config import load_config as load_agent
from fedlp_edge.config.toml import parse_toml
from fedlp_edge.probe.profiles import find_profile
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.summary import DeviceRound, FinalModel, RoundSummary, Summary
from fedlp_edge.simulation import load_experiment
from fedlp_edge.wire.messages import PROTOCOL
from fedlp_edge.worker.jobs import ExportedModel

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "examples", "benchmarks")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
AGENT_PAGES = ("releases.md", "security.md")
"""Pages whose snippets are of an agent's file, without a comment that says so."""
EXPERIMENT_PAGES = ("simulation.md", "recipes.md", "fedlp.md")


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


def test_protocol_page_names_the_version() -> None:
    (version,) = re.findall(r"Version (\d+),\s+which `Announcement.protocol`", page("docs/wire-protocol.md"))
    assert int(version) == PROTOCOL


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


def test_index_leads_to_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}

    assert set(re.findall(r"\]\(([\w-]+\.md)\)", page("docs/index.md"))) == pages


def anchors_of(text: str) -> set[str]:
    """Names by which the headings of a page can be linked to, as GitHub makes them."""
    names: list[str] = []
    for heading in re.findall(r"^#{1,6} (.*)$", re.sub(FENCED, "", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        earlier = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in names)
        names.append(f"{name}-{earlier}" if earlier else name)
    return set(names)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]*\.md|)#([^)]+)\)", path.read_text(encoding="utf-8"))

    missing = [
        f"{file}#{heading}"
        for file, heading in targets
        if heading not in anchors_of((path.parent / file if file else path).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_anchors_are_those_of_headings() -> None:
    text = "# A `b.c`, d\n```\n# comment\n```\n## [Who](x.md) is it?\n## a bc d\n"

    assert anchors_of(text) == {"a-bc-d", "who-is-it", "a-bc-d-1"}


SNIPPETS = [
    pytest.param(path, snippet, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, snippet in enumerate(
        re.findall(r"^```toml\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def test_snippets_were_found() -> None:
    assert len(SNIPPETS) >= 15


@pytest.mark.parametrize(("path", "snippet"), SNIPPETS)
def test_snippets_of_toml_are_taken_by_their_reader(path: Path, snippet: str, tmp_path: Path) -> None:
    """A snippet shows a part of a file: what must be there and is not shown is put before it."""
    file = tmp_path / path.relative_to(ROOT).with_suffix(".toml").name
    if path.name in AGENT_PAGES or snippet.startswith("# agent.toml"):
        given = {"fleet": "x", "data": "digits"} if "fleet =" not in snippet else {}
        file.write_text(snippet, "utf-8")
        load_agent(file, given)
    elif path.name == "profiles.md":
        file.write_text(snippet, "utf-8")
        assert find_profile(str(file)).name
    elif path.name in EXPERIMENT_PAGES:
        file.write_text(snippet if "name =" in snippet.partition("[")[0] else f'name = "x"\n{snippet}', "utf-8")
        assert load_experiment(file).name
    else:
        file.write_text(snippet if "fleet =" in snippet else f'fleet = "x"\n{snippet}', "utf-8")
        assert load_config(file).fleet


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
