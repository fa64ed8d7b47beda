"""The documentation is checked against the code: keys, defaults, formats, links, examples."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from operator import attrgetter
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml
from msgspec import inspect

from coordinator.config import FleetConfig, load_config
from coordinator.monitoring.run_state import RunState
from coordinator.transfer.flow_limits import FlowLimits
from device_agent.config import AgentConfig
from device_agent.config import load_config as load_agent
from fedlp_edge.cli.doctor.findings import GOOD_PACKET, SMALLEST_PACKET
from fedlp_edge.config.recipes import RECIPES
from fedlp_edge.config.toml import parse_toml
from fedlp_edge.core.metric_names import BETTER
from fedlp_edge.learning.data.spec.parsing import OPTIONS, OWN_OPTIONS
from fedlp_edge.learning.data.spec.source_kinds import ON_DISK
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.probe.profiles import find_profile, load_profiles
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.reporting.summary import DeviceOutcome, DeviceRound, FinalModel, RoundSummary, Summary, Traffic
from fedlp_edge.simulation import load_experiment
from fedlp_edge.simulation.experiment import ExportChoice, FleetSettings, SimulatedData, SimulationSettings
from fedlp_edge.wire import messages
from fedlp_edge.wire.admission import RejectionReason
from fedlp_edge.wire.chunks import DEFAULT_CHUNK_BYTES
from fedlp_edge.wire.messages import PROTOCOL, FromCoordinator, FromDevice
from fedlp_edge.worker.jobs import ExportedModel

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "examples", "benchmarks")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
PACKAGES = ("fedlp_edge", "coordinator", "device_agent")
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


def test_simulation_page_has_every_key_and_default_of_its_own() -> None:
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| (.*?) \|", page("docs/simulation.md"), re.MULTILINE)

    own = {"data": SimulatedData, "fleet": FleetSettings, "export": ExportChoice, "simulation": SimulationSettings}
    assert {(table, key) for table, key, _ in rows} == {
        (table, key) for table, kind in own.items() for key in kind.__struct_fields__
    }
    for table, key, default in rows:
        value = getattr(own[table](), key)
        assert (
            default in ("none", "the experiment's")
            if value in ((), {}, None)
            else json.loads(default.strip("`")) == value
        )


def test_configuration_page_has_the_right_defaults() -> None:
    defaults = parse_toml('fleet = "x"', FleetConfig, "fleet.toml")
    for table, keys in documented_settings().items():
        struct = attrgetter(table)(defaults) if table else defaults
        for key, documented in keys.items():
            value = getattr(struct, key)
            if value is None or (table, key) == ("", "fleet"):
                continue
            assert json.loads(documented) == json.loads(msgspec.json.encode(value)), f"[{table}] {key}"


@pytest.mark.parametrize(("key", "names"), [("metric", BETTER), ("recipe", RECIPES)])
def test_configuration_page_has_every_metric_and_recipe(key: str, names: Collection[str]) -> None:
    (row,) = [line for line in page("docs/configuration.md").splitlines() if line.startswith(f"| `{key}` |")]

    assert [name for name in names if f"`{name}`" not in row] == []


def test_devices_page_has_every_key_of_the_agent() -> None:
    rows = re.findall(r"^\| `--[\w-]+`, `(\w+)", page("docs/devices.md"), re.MULTILINE)

    assert sorted(rows) == sorted(set(AgentConfig.__struct_fields__) - {"broker", "serve"})


def test_devices_page_has_the_variables_that_the_code_reads() -> None:
    code = "".join(path.read_text("utf-8") for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    read = set(re.findall(r"FEDLP_[A-Z_]+[A-Z]", code)) - {"FEDLP_BROKER", "FEDLP_SERVING_OPTIONS"}
    table = page("docs/devices.md").split("## Environment\n", 1)[1].split("\n## ", 1)[0]

    assert set(re.findall(r"`(FEDLP_\w+)`", table)) == read - {"FEDLP_KEY_PASSPHRASE"}


def test_data_page_has_every_option() -> None:
    text = page("docs/data.md")

    options = {*OPTIONS, *(option for options in OWN_OPTIONS.values() for option in options)}
    assert sorted(option for option in options if f"`{option}=" not in text) == []


def test_data_page_has_every_kind_of_data_that_is_watched() -> None:
    section = page("docs/data.md").split("## When new data count\n", 1)[1]

    assert set(re.findall(r"`(\w+):`", section)) == set(ON_DISK)


def test_export_page_has_every_property_of_a_file() -> None:
    text = page("docs/export.md")

    assert [key for key in OnnxMetadata.__struct_fields__ if f"`fedlp.{key}`" not in text] == []


def test_brokers_page_has_the_packets_that_a_fleet_wants() -> None:
    (row,) = [line for line in page("docs/brokers.md").splitlines() if line.startswith("| largest packet |")]

    assert f"below {format_bytes(SMALLEST_PACKET)} | below {format_bytes(GOOD_PACKET)}:" in row


def test_brokers_page_has_what_a_queue_allows() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (\d+) chunks \| (\d+) MB \| (\d+) chunks \|$", page("docs/brokers.md"), re.MULTILINE
    )

    assert len(rows) == 3
    for queue, credit, ahead, repeat in rows:
        limits = FlowLimits.for_queue(int(queue), DEFAULT_CHUNK_BYTES)
        assert (limits.credit, limits.repeat) == (int(credit), int(repeat))
        assert round((limits.broadcast or 0) * DEFAULT_CHUNK_BYTES / 1e6) == int(ahead)


def keys_of_tables(text: str) -> list[set[str]]:
    """What the first column of each table has in backticks, table by table."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        {key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
        for table in tables
    ]


def test_run_directory_page_has_every_key_of_the_summary() -> None:
    kinds = (Summary, RoundSummary, DeviceRound, DeviceOutcome, Traffic, FinalModel, ExportedModel)
    (_, text) = page("docs/run-directory.md").split("## summary.json\n")
    tables = keys_of_tables(text)

    for kind, keys in zip(kinds, tables, strict=False):
        if kind is not Traffic:  # whose table is of purposes
            assert keys == set(kind.__struct_fields__), kind.__name__


def test_monitoring_page_has_every_key_of_the_state() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```", page("docs/monitoring.md"), re.MULTILINE | re.DOTALL)

    assert msgspec.convert(json.loads(shown), RunState).fleet == "shop"
    assert set(json.loads(shown)) == set(RunState.__struct_fields__)


def test_profiles_page_has_the_figures_of_the_boards() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\d+).* \| (\d+) GB.* \| (\d+) ([MG])bit/s \|$", page("docs/profiles.md"), re.MULTILINE
    )

    boards = {profile.name: profile for profile in load_profiles() if profile.ram_mb}
    assert {name for name, *_ in rows} == set(boards)
    for name, cores, ram, link, unit in rows:
        board = boards[name]
        assert (1000 * int(ram), int(link) * (1000 if unit == "G" else 1)) == (board.ram_mb, board.link_mbit_per_second)
        assert name == "phone-arm64" or int(cores) == board.threads


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_run_directory_page_has_every_event(kind: type[msgspec.Struct]) -> None:
    row = re.search(rf"^\| `{kind.__name__}` \| (.*)\|$", page("docs/run-directory.md"), re.MULTILINE)

    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == [key for key in kind.__struct_fields__ if key != "time"]


def test_protocol_page_names_the_version() -> None:
    (version,) = re.findall(r"Version (\d+),\s+which `Announcement.protocol`", page("docs/wire-protocol.md"))
    assert int(version) == PROTOCOL


@pytest.mark.parametrize(("topic", "union"), [("down/ID", FromCoordinator), ("up/ID", FromDevice)])
def test_protocol_page_has_the_messages_of_a_topic(topic: str, union: object) -> None:
    (row,) = re.findall(rf"^\| `{topic}` \| (.*?) \|", page("docs/wire-protocol.md"), re.MULTILINE)

    assert set(re.findall(r"`(\w+)`", row)) == {kind.__name__ for kind in get_args(union)}


def test_security_page_has_every_reason_to_refuse_an_update() -> None:
    (text,) = re.findall(r"^## Why updates are refused$(.*?)^### ", page("docs/security.md"), re.MULTILINE | re.DOTALL)
    (table,) = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)

    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [*RejectionReason, "implausible"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_fields_of_messages_exist(path: Path) -> None:
    named = re.findall(r"`(\w+)\.(\w+)`", path.read_text(encoding="utf-8"))

    kinds = vars(messages)
    assert [f"{kind}.{field}" for kind, field in named if kind in kinds and not hasattr(kinds[kind], field)] == []


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


TESTS = [(path.stem, path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
TEST_NAMES = {name for file, text in TESTS for name in (file, *re.findall(r"def (test_\w+)", text))}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_a_page_names_are_there(path: Path) -> None:
    text = path.read_text("utf-8")
    missing = [name for name in re.findall(r"\btest_\w+", text) if name not in TEST_NAMES]
    for file, name in re.findall(r"\b(test_\w+)\.py::(test_\w+)", text):
        if not any(other == file and f"def {name}(" in code for other, code in TESTS):
            missing.append(f"{file}.py::{name}")

    assert missing == []


def test_page_of_the_benchmarks_has_every_script() -> None:
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")}

    assert set(re.findall(r"^\| `(\w+\.py)` \|", page("benchmarks/README.md"), re.MULTILINE)) == scripts


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_benchmarks_that_a_page_calls_have_these_options(path: Path) -> None:
    for name, words in re.findall(r"-m benchmarks\.(\w+)((?: [^`\n]*)?)", path.read_text("utf-8")):
        code = page(f"benchmarks/{name}.py")
        assert [option for option in re.findall(r"--[a-z-]+", words) if f'"{option}"' not in code] == [], name


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
