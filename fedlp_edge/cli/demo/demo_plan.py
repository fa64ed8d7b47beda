"""This module computes the demo's options, the fleet's configuration file, and one command per process.

It starts no process. The options are stored in the run directory, so that a stopped demo continues with them.
"""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from fedlp_edge.config.toml import check_option
from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.core.settings import Count, EncodingOrAuto, Processor, Share
from fedlp_edge.errors import ConfigError, StorageError

T = TypeVar("T")
Scheme = Literal["hetero", "homo", "both", "fedavg"]

_OPTIONS_FILE = "demo.json"
_HOMO_LPR = 0.5


@dataclass(frozen=True)
class DemoPreset:
    """The settings that suit a data set.

    Attributes:
        input: Shape of one sample.
        epochs: Per round.
        rounds: Enough for a good model.
        samples: Per device; 0 takes its whole share.
        profiles: Given in turn, the largest first: somebody must train the full depth. Larger pictures need
            larger devices.
        lr: Step size.
        held_out: Test samples that every round is judged on; 0 takes them all. The exported files are too.
    """

    input: tuple[int, int, int]
    epochs: int
    rounds: int
    samples: int
    profiles: tuple[str, ...]
    lr: float = 0.05
    held_out: int = 0


_FOR_8X8 = ("class-l", "class-m", "class-s", "class-xs")
_FOR_28X28 = ("class-3xl", "class-2xl", "class-xl", "class-l")

PRESETS = {
    "digits": DemoPreset(input=(1, 8, 8), epochs=2, rounds=10, samples=0, profiles=_FOR_8X8),
    "fashion-mnist": DemoPreset(
        input=(1, 28, 28), epochs=1, rounds=10, samples=3000, lr=0.02, held_out=2000, profiles=_FOR_28X28
    ),
    "mnist": DemoPreset(
        input=(1, 28, 28), epochs=1, rounds=10, samples=3000, lr=0.02, held_out=2000, profiles=_FOR_28X28
    ),
}


class DemoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that defines a demo.

    Attributes:
        data: A key of ``PRESETS``.
        devices: Agents to start.
        rounds: Number of rounds.
        broker: ``embedded``, ``mosquitto`` or the URL of a broker that is there.
        seed: Seed of everything that is drawn.
        partition: Rule by which samples are assigned to devices, see docs/data.md.
        samples: Per device, at most; 0 for its whole share.
        head_mode: Shared or personal exit heads.
        scheme: Part of FedLP to show.
        lpr: Layer-preserving rate.
        encoding: Encoding of the updates, or ``auto`` to fit each device's link.
        device: Processor to train on.
        fleet: Name of the fleet.
    """

    data: str
    devices: Count
    rounds: Count
    broker: str
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    partition: str
    samples: Annotated[int, msgspec.Meta(ge=0)]
    head_mode: HeadMode
    scheme: Scheme
    lpr: Share
    device: Processor
    fleet: str
    encoding: EncodingOrAuto = "none"


class GivenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options on the command line; None for those that the user left out."""

    data: str | None = None
    devices: int | None = None
    rounds: int | None = None
    broker: str | None = None
    seed: int | None = None
    partition: str | None = None
    samples: int | None = None
    head_mode: HeadMode | None = None
    scheme: Scheme | None = None
    lpr: float | None = None
    encoding: str | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None


def complete(given: GivenOptions) -> DemoOptions:
    """Fills in defaults and checks what depends on each other.

    Raises:
        ConfigError: The options do not fit together; the message names the option.
    """
    data = given.data or "digits"
    if data not in PRESETS:
        raise ConfigError(f"--data {data}: the demo knows {', '.join(PRESETS)}; for your own data write a fleet.toml")
    preset = PRESETS[data]
    scheme = given.scheme or "hetero"
    if given.lpr is not None and scheme in ("hetero", "fedavg") and given.lpr != 1.0:
        raise ConfigError(f"--lpr {given.lpr:g} needs --scheme homo or --scheme both; {scheme} keeps every layer")
    broker = given.broker or "embedded"
    private = broker in ("embedded", "mosquitto")
    if not private and "://" not in broker:
        raise ConfigError(f"--broker {broker}: use embedded, mosquitto or a URL such as mqtt://192.168.1.2")
    return DemoOptions(
        data=data,
        devices=_or(given.devices, 5),
        rounds=_or(given.rounds, preset.rounds),
        broker=broker,
        seed=_or(given.seed, 1),
        partition=given.partition or "iid",
        samples=_or(given.samples, preset.samples),
        head_mode=given.head_mode or "shared",
        scheme=scheme,
        lpr=_or(given.lpr, _HOMO_LPR if scheme in ("homo", "both") else 1.0),
        encoding=check_option(given.encoding or "none", EncodingOrAuto, "--encoding"),
        device=given.device or "cpu",
        # On a broker that others use too, two demos need different fleet names.
        fleet="demo" if private else f"demo-{secrets.token_hex(3)}",
    )


def save_options(options: DemoOptions, directory: Path) -> None:
    """Stores the options in the run directory."""
    (directory / _OPTIONS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(options), indent=2) + b"\n")


def load_options(directory: Path) -> DemoOptions | None:
    """The options that a run directory was begun with; None if it is no demo's.

    Raises:
        StorageError: The file is damaged.
    """
    path = directory / _OPTIONS_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=DemoOptions)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{path} cannot be read ({error}); choose another directory with --out") from None


def changed_options(given: GivenOptions, options: DemoOptions) -> list[str]:
    """Names of the options that the user gave and that differ from the ones in use."""
    return [
        name
        for name in GivenOptions.__struct_fields__
        if (value := getattr(given, name)) is not None and value != getattr(options, name)
    ]


def config_text(options: DemoOptions, broker_url: str) -> str:
    """The fleet's TOML file, with comments: it is meant to be copied."""
    preset = PRESETS[options.data]
    evaluated = f"{options.data}#limit={preset.held_out}" if preset.held_out else options.data
    depth = "full" if options.scheme in ("homo", "fedavg") else "auto"
    return f"""\
# Written by `fedlp demo`. Copy it as a start for a fleet of your own; docs/configuration.md has every key.
fleet = {_quoted(options.fleet)}
seed = {options.seed}

[broker]
url = {_quoted(broker_url)}

[model]
name = "small-cnn"
input = {list(preset.input)}
classes = 10
head_mode = {_quoted(options.head_mode)}

[data]
# What the coordinator evaluates with: the test split, which no device trains on.
evaluate = {_quoted(evaluated)}

[training]
epochs = {preset.epochs}
batch_size = 32
lr = {preset.lr}
momentum = 0.9

[scheme]
depth = {_quoted(depth)}
lpr = {options.lpr}

[update]
encoding = {_quoted(options.encoding)}

[planner]
# Depth is what the demo shows: no device may save memory in other ways.
techniques = []

[rounds]
count = {options.rounds}
min_devices = {options.devices}
deadline_seconds = 90
quorum = 0.5
"""


def coordinator_command(config: Path, directory: Path) -> list[str]:
    """The coordinator's process."""
    return [sys.executable, "-P", "-m", "coordinator", "--config", str(config), "--out", str(directory), "--quiet"]


def agent_command(options: DemoOptions, number: int, broker_url: str, directory: Path) -> list[str]:
    """One device's process; ``number`` counts from 0."""
    device = device_id(number)
    profiles = PRESETS[options.data].profiles
    return [
        *(sys.executable, "-P", "-m", "device_agent"),
        *("--broker", broker_url),
        *("--fleet", options.fleet),
        *("--id", device),
        *("--data", data_spec(options, number)),
        *("--profile", profiles[number % len(profiles)]),
        *("--device", options.device),
        *("--threads", "1"),
        *("--state", str(directory / "devices" / device)),
        "--once",
    ]


def broker_command(options: DemoOptions) -> list[str]:
    """The process of a broker that the demo starts itself, on a free port."""
    return [sys.executable, "-P", "-m", "fedlp_edge", "broker", "--kind", options.broker, "--port", "0"]


def device_id(number: int) -> str:
    """``demo-01`` for number 0."""
    return f"demo-{number + 1:02}"


def data_spec(options: DemoOptions, number: int) -> str:
    """The share of the data set that one device holds."""
    parts = [f"share={number}/{options.devices}", f"partition={options.partition}", f"seed={options.seed}"]
    if options.samples:
        parts.append(f"limit={options.samples}")
    return f"{options.data}#{'&'.join(parts)}"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
