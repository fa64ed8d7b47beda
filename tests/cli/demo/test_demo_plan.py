from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import FleetConfig
from fedlp_edge.cli.demo.demo_plan import (
    PRESETS,
    DemoOptions,
    GivenOptions,
    Scheme,
    agent_command,
    changed_options,
    complete,
    config_text,
    coordinator_command,
    data_spec,
    load_options,
    save_options,
)
from fedlp_edge.config.toml import parse_toml
from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.probe.profiles import profile_names


def options(**given: object) -> DemoOptions:
    return complete(GivenOptions(**given))


def test_fills_in_defaults() -> None:
    assert options() == DemoOptions(
        data="digits",
        devices=5,
        rounds=10,
        broker="embedded",
        seed=1,
        partition="iid",
        samples=0,
        head_mode="shared",
        scheme="hetero",
        lpr=1.0,
        encoding="none",
        device="cpu",
        fleet="demo",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "cats"}, "--data cats: the demo knows digits, fashion-mnist, mnist"),
        ({"lpr": 0.5}, "--lpr 0.5 needs --scheme homo or --scheme both; hetero keeps every layer"),
        ({"scheme": "fedavg", "lpr": 0.5}, "--lpr 0.5 needs --scheme homo"),
        ({"broker": "mosquito"}, "--broker mosquito: use embedded, mosquitto or a URL"),
    ],
)
def test_refuses_options_that_do_not_fit(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(**given)


def test_keeps_fleets_on_a_common_broker_apart() -> None:
    first, second = options(broker="mqtt://host"), options(broker="mqtt://host")

    assert first.fleet != second.fleet


@pytest.mark.parametrize(
    ("scheme", "depth", "lpr"),
    [("hetero", "auto", 1.0), ("homo", "full", 0.5), ("both", "auto", 0.5), ("fedavg", "full", 1.0)],
)
def test_writes_a_configuration_that_the_coordinator_reads(scheme: Scheme, depth: str, lpr: float) -> None:
    chosen = options(scheme=scheme, devices=3, rounds=2, seed=7, encoding="int8+zstd")
    text = config_text(chosen, "mqtt://127.0.0.1:1234")

    config = parse_toml(text, FleetConfig, "config.toml")

    assert (config.fleet, config.seed, config.broker.url) == ("demo", 7, "mqtt://127.0.0.1:1234")
    assert (config.scheme.depth, config.scheme.lpr, config.update.encoding) == (depth, lpr, "int8+zstd")
    assert (config.rounds.count, config.rounds.min_devices) == (2, 3)
    assert (config.model.name, config.model.input, config.data.evaluate) == ("small-cnn", (1, 8, 8), "digits")


def test_a_new_port_does_not_make_it_another_run() -> None:
    one, two = (
        parse_toml(config_text(options(), url), FleetConfig, "config.toml") for url in ("mqtt://a:1", "mqtt://b:2")
    )

    assert one.identity == two.identity


def test_deals_disjoint_shares_to_devices() -> None:
    chosen = options(data="fashion-mnist", devices=8, partition="dirichlet:0.5", seed=3)

    specs = [parse_spec(data_spec(chosen, number)) for number in range(8)]

    assert [(spec.share.device, spec.share.devices) for spec in specs if spec.share] == [(n, 8) for n in range(8)]
    assert {(spec.seed, spec.limit) for spec in specs} == {(3, 3000)}


def test_gives_the_first_device_the_largest_profile() -> None:
    commands = [agent_command(options(), number, "mqtt://h:1", Path("run")) for number in range(5)]

    profiles = [command[command.index("--profile") + 1] for command in commands]
    assert profiles == ["class-l", "class-m", "class-s", "class-xs", "class-l"]
    assert "--once" in commands[0]
    assert commands[1][commands[1].index("--id") + 1] == "demo-02"


def test_knows_profiles_that_exist() -> None:
    assert {name for preset in PRESETS.values() for name in preset.profiles} <= set(profile_names())


def test_starts_the_coordinator_quietly() -> None:
    assert coordinator_command(Path("run/config.toml"), Path("run"))[-5:] == [
        "--config",
        "run/config.toml",
        "--out",
        "run",
        "--quiet",
    ]


def test_keeps_options_in_the_run_directory(tmp_path: Path) -> None:
    chosen = options(devices=3)
    assert load_options(tmp_path) is None

    save_options(chosen, tmp_path)

    assert load_options(tmp_path) == chosen
    assert changed_options(GivenOptions(), chosen) == []
    assert changed_options(GivenOptions(devices=3, rounds=99), chosen) == ["rounds"]


def test_refuses_damaged_options(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{")

    with pytest.raises(StorageError, match="choose another directory with --out"):
        load_options(tmp_path)
