"""This module implements ``fedlp cost``, which computes a model's cost under a scheme, before any training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.depths import build_blueprint, constants_line, depth_table, title
from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import check_option, load_toml
from fedlp_edge.core.accounting import Communication, TransferBytes, communication, expected_bytes, parameters
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import BroadcastEncoding, Encoding, ModelSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.reporting.summary import Summary, load

Scheme = Literal["homo", "hetero", "fedavg"]

_PAPER_LPR = 0.5


def parse_mix(text: str) -> tuple[float, ...]:
    """``0.2,0.8`` as numbers.

    Raises:
        ConfigError: Something in it is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--depth-mix {text}: write one share per depth, such as 0.2,0.3,0.5") from None


def scheme_shares(
    blueprint: Blueprint, scheme: Scheme, lpr: float | None, depth_mix: tuple[float, ...] | None
) -> tuple[tuple[float, ...], float]:
    """Returns the share of the devices by depth and the layer-preserving rate of a scheme.

    Args:
        blueprint: Blueprint of the model.
        scheme: ``fedavg`` is full depth and everything sent; ``homo`` full depth with a rate; ``hetero`` a
            mix of depths, uniform if not given, with every layer sent unless a rate is given too.
        lpr: Layer-preserving rate.
        depth_mix: Share of the devices by depth.

    Raises:
        ConfigError: An option does not go with the scheme.
    """
    if scheme != "hetero" and depth_mix is not None:
        raise ConfigError(f"--depth-mix goes with --scheme hetero; under {scheme} every device has the full depth")
    if scheme == "fedavg" and lpr is not None and lpr != 1.0:
        raise ConfigError("--lpr goes with --scheme homo or hetero; fedavg sends every layer")
    depths = blueprint.full_depth
    if scheme == "hetero":
        mix = depth_mix if depth_mix is not None else (1 / depths,) * depths
    else:
        mix = (0.0,) * (depths - 1) + (1.0,)
    return mix, lpr if lpr is not None else _PAPER_LPR if scheme == "homo" else 1.0


def scheme_cost(
    blueprint: Blueprint, scheme: Scheme, lpr: float | None, depth_mix: tuple[float, ...] | None
) -> Communication:
    """Computes the expected cost of one device in one round, as the paper counts (see ``scheme_shares``).

    Raises:
        ConfigError: An option does not go with the scheme, or the mix does not fit the model.
    """
    mix, rate = scheme_shares(blueprint, scheme, lpr, depth_mix)
    try:
        return communication(blueprint, mix, rate)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@dataclass(frozen=True)
class CostOptions:
    """The options of ``fedlp cost`` beside the model.

    Attributes:
        scheme: Scheme to count by.
        lpr: Layer-preserving rate; None for the scheme's.
        depth_mix: Share of the devices by depth, as text; None for a uniform mix.
        encoding: Encoding of the updates, as text.
        broadcast: Encoding of the model, as text.
        devices: Number of devices of a round.
        rounds: Number of rounds.
        run: Run directory whose realised figures are shown; None for none.
    """

    scheme: Scheme = "fedavg"
    lpr: float | None = None
    depth_mix: str | None = None
    encoding: str = "none"
    broadcast: str = "none"
    devices: int = 1
    rounds: int = 1
    run: Path | None = None


class RealisedTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of a run transferred in all rounds together.

    Attributes:
        entries: Number of tasks, one for each device and round.
        down_params: Parameters received, as the paper counts.
        up_params: Parameters sent, as the paper counts.
        down_payload: Bytes of the model's blobs.
        up_payload: Bytes of the updates' blobs.
        down_bytes: Bytes received, headers and repeats included; in a simulation the payload.
        up_bytes: Bytes sent, headers and repeats included; in a simulation the payload.
    """

    entries: int
    down_params: int
    up_params: int
    down_payload: int
    up_payload: int
    down_bytes: int
    up_bytes: int


def realised_transfer(summary: Summary) -> RealisedTransfer:
    """Adds up what the devices of a run transferred."""
    entries = [device for entry in summary.rounds for device in entry.devices]
    return RealisedTransfer(
        entries=len(entries),
        down_params=sum(entry.params_down for entry in entries),
        up_params=sum(entry.params_up for entry in entries),
        down_payload=sum(entry.payload_down for entry in entries),
        up_payload=sum(entry.payload_up for entry in entries),
        down_bytes=sum(entry.bytes_down for entry in entries),
        up_bytes=sum(entry.bytes_up for entry in entries),
    )


class _Update(msgspec.Struct, frozen=True):
    encoding: str = "none"
    broadcast: str = "none"


class _RunConfig(msgspec.Struct, frozen=True):
    """What the configuration of a run says of its model and of the encodings."""

    model: ModelSettings = ModelSettings()
    update: _Update = _Update()


def cost_of_run(run: Path, options: CostOptions) -> tuple[ModelSettings, CostOptions]:
    """Returns the model of a run, and options with its encodings, and its devices' depths and mean rate.

    Raises:
        ConfigError: Its configuration cannot be read.
        StorageError: The run directory has no summary.
    """
    entries = [device for entry in load(run / "summary.json").rounds for device in entry.devices]
    config = load_toml(run / "config.toml", _RunConfig, with_recipe, RENAMED)
    options = replace(options, encoding=config.update.encoding)
    if config.update.broadcast != "auto":  # which changes as links do
        options = replace(options, broadcast=config.update.broadcast)
    if entries:
        blueprint = build_blueprint(config.model.without_weights)
        depths = [entry.depth for entry in entries]
        shares = [depths.count(depth) / len(depths) for depth in range(1, blueprint.full_depth + 1)]
        rate = sum(entry.lpr for entry in entries) / len(entries)
        options = replace(options, scheme="hetero", depth_mix=",".join(map(repr, shares)), lpr=rate)
    return config.model.without_weights, options


def run_cost(model: ModelSettings, options: CostOptions, *, as_json: bool) -> int:
    """Prints the tables, or the JSON object with the keys of ``Communication`` and ``TransferBytes``.

    Raises:
        ConfigError: Options do not fit together or the model.
        StorageError: The run directory has no summary.
    """
    mix = parse_mix(options.depth_mix) if options.depth_mix is not None else None
    encoding: Encoding = check_option(options.encoding, Encoding, "--encoding")
    broadcast: BroadcastEncoding = check_option(options.broadcast, BroadcastEncoding, "--broadcast")
    realised = realised_transfer(load(options.run / "summary.json")) if options.run is not None else None
    blueprint = build_blueprint(model)
    cost = scheme_cost(blueprint, options.scheme, options.lpr, mix)
    shares, rate = scheme_shares(blueprint, options.scheme, options.lpr, mix)
    transfer = expected_bytes(blueprint, shares, rate, encoding=encoding, broadcast=broadcast)
    if as_json:
        found: dict[str, object] = {**msgspec.structs.asdict(rounded(cost)), **_rounded(transfer)}
        found |= {"encoding": encoding, "broadcast": broadcast}
        if realised is not None:
            found["realised"] = realised
        print(msgspec.json.encode(found).decode())
    else:
        open_console().print(cost_tables(blueprint, cost, options.scheme))
        open_console().print(transfer_table(cost, transfer, options, realised))
    return 0


def rounded(cost: Communication) -> Communication:
    """Rounds the cost to a thousandth of the unit, which removes the noise of binary fractions."""
    return Communication(**{key: round(value, 3) for key, value in msgspec.structs.asdict(cost).items()})


def _rounded(transfer: TransferBytes) -> dict[str, int]:
    return {key: round(value) for key, value in msgspec.structs.asdict(transfer).items()}


def cost_tables(blueprint: Blueprint, cost: Communication, scheme: str) -> RenderableType:
    """Returns the tables of every depth's cost and of the scheme's."""
    expected = Table(box=None, pad_edge=False, show_header=False)
    expected.add_column(no_wrap=True)
    expected.add_column(justify="right", no_wrap=True)
    expected.add_row("parameters down (k)", f"{cost.down_kparams:.2f}")
    expected.add_row("parameters up (k)", f"{cost.up_kparams:.2f}")
    expected.add_row("communication (k)", Text(f"{cost.communication_kparams:.2f}", style="bold"))
    expected.add_row("forward MACs (M)", Text(f"{cost.forward_mmacs:.2f}", style="bold"))
    return Group(
        title(blueprint),
        "",
        depth_table(blueprint, "exchanged", lambda depth: f"{parameters(blueprint.exchanged_by(depth)):,}"),
        Text(
            "bytes: float32 with buffers; MMACs, saved: a sample; exchanged: as the paper counts",
            style="dim",
        ),
        *([once] if (once := constants_line(blueprint)) is not None else []),
        "",
        Text(f"Expected per client and round under {scheme}", style="bold"),
        expected,
    )


def transfer_table(
    cost: Communication, transfer: TransferBytes, options: CostOptions, realised: RealisedTransfer | None
) -> RenderableType:
    """Returns the table of both directions: the paper's count, expected bytes, and what a run really took.

    Args:
        cost: Expected cost as the paper counts.
        transfer: Expected bytes.
        options: Options of the command.
        realised: Transfer of the run; None if no run was named.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("down", "up", "both"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, down: float, up: float, show: Callable[[float], str]) -> None:
        table.add_row(name, show(down), show(up), Text(show(down + up), style="bold"))

    def count(params: float) -> str:
        return f"{params / 1e3:,.2f} k"

    def size(nbytes: float) -> str:
        return format_bytes(round(nbytes))

    tasks = options.devices * options.rounds
    down, up = 1e3 * cost.down_kparams, 1e3 * cost.up_kparams
    add("parameters, the paper's count", down, up, count)
    add("bytes", transfer.down_bytes, transfer.up_bytes, size)
    if transfer.once_bytes:
        add("bytes once, in the first round", transfer.once_bytes, 0, size)
    if tasks > 1:
        add(f"in total, {options.devices} x {options.rounds}: parameters", tasks * down, tasks * up, count)
        once = options.devices * transfer.once_bytes
        add("  bytes", tasks * transfer.down_bytes + once, tasks * transfer.up_bytes, size)
    if realised is not None and realised.entries:
        tasks = realised.entries
        add("realised: parameters, the paper's count", realised.down_params / tasks, realised.up_params / tasks, count)
        add("  bytes of models and updates", realised.down_payload / tasks, realised.up_payload / tasks, size)
        add("  bytes as they travelled", realised.down_bytes / tasks, realised.up_bytes / tasks, size)
        add(f"in total, {tasks} tasks: parameters", realised.down_params, realised.up_params, count)
        add("  bytes of models and updates", realised.down_payload, realised.up_payload, size)
        add("  bytes as they travelled", realised.down_bytes, realised.up_bytes, size)
    note = "bytes: every unit changed, no headers; what Zstandard takes off depends on the numbers and is not counted"
    named = {"none": "float32"}
    model, updates = (named.get(text, text) for text in (options.broadcast, options.encoding))
    heading = f"Both directions: the model as {model}, updates as {updates}"
    return Group("", Text(heading, style="bold"), table, Text(note, style="dim"))
