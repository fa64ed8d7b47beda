"""``fedlp cost``: what a model costs under a scheme, before anything is trained.

The model is built by a worker process, so this command needs no torch of its own and a model that does
not fit into memory ends in a message.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlp_edge.core.accounting import Communication, communication, parameters
from fedlp_edge.core.blueprint import Blueprint, HeadMode
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, WorkerError
from fedlp_edge.reporting.units import depth_bar, format_bytes
from fedlp_edge.worker.jobs import Build, Built, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

Scheme = Literal["homo", "hetero", "fedavg"]

_BUILD_SECONDS = 600.0
_PAPER_LPR = 0.5


def parse_input(text: str) -> tuple[int, ...]:
    """``3x32x32`` as ``(3, 32, 32)``.

    Raises:
        ConfigError: it is no such shape.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--input {text}: write the shape of one sample as 3x32x32 (channels x height x width)")
    return tuple(int(part) for part in parts)


def parse_mix(text: str) -> tuple[float, ...]:
    """``0.2,0.8`` as numbers.

    Raises:
        ConfigError: something in it is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--depth-mix {text}: write one share per depth, such as 0.2,0.3,0.5") from None


def build_blueprint(model: ModelSettings) -> Blueprint:
    """The blueprint of a model, built by a worker process.

    Raises:
        ModelError: it is unknown, or cannot be built or split.
        WorkerError: the worker failed.
    """
    # The user named the model on this command line, so its code may run.
    with WorkerProcess(WorkerOptions(threads=1, device="cpu", allow_models=(model.name,))) as worker:
        built = worker.call(Build(model=model), timeout=_BUILD_SECONDS)
    if not isinstance(built, Built):
        raise WorkerError(f"the worker answered a build with {type(built).__name__}")
    return built.blueprint


def scheme_cost(
    blueprint: Blueprint, scheme: Scheme, lpr: float | None, depth_mix: tuple[float, ...] | None
) -> Communication:
    """Expected cost of one client-round.

    Args:
        blueprint: of the model.
        scheme: ``fedavg`` is full depth and everything sent; ``homo`` full depth with a rate; ``hetero`` a
            mix of depths, uniform if not given, with every layer sent unless a rate is given too.
        lpr: layer-preserving rate.
        depth_mix: share of the devices by depth.

    Raises:
        ConfigError: an option does not go with the scheme, or the mix does not fit the model.
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
    rate = lpr if lpr is not None else _PAPER_LPR if scheme == "homo" else 1.0
    try:
        return communication(blueprint, mix, rate)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def run_cost(
    model: str,
    input_shape: str,
    classes: int,
    scheme: Scheme,
    lpr: float | None,
    depth_mix: str | None,
    heads: HeadMode,
    *,
    as_json: bool,
) -> int:
    """Prints the table, or the JSON object with the keys of ``Communication``."""
    mix = parse_mix(depth_mix) if depth_mix is not None else None
    shape = parse_input(input_shape)
    blueprint = build_blueprint(ModelSettings(name=model, input=shape, classes=classes, heads=heads))
    cost = scheme_cost(blueprint, scheme, lpr, mix)
    if as_json:
        print(msgspec.json.encode(rounded(cost)).decode())
    else:
        Console().print(cost_tables(blueprint, cost, scheme))
    return 0


def rounded(cost: Communication) -> Communication:
    """To what the counts can say: a thousandth of the unit, free of the noise of binary fractions."""
    return Communication(**{key: round(value, 3) for key, value in msgspec.structs.asdict(cost).items()})


def cost_tables(blueprint: Blueprint, cost: Communication, scheme: str) -> RenderableType:
    """Every depth's cost, then the scheme's."""
    by_depth = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("depth", "layer", "parameters", "exchanged", "bytes", "MMACs", "activations"):
        by_depth.add_column(name, justify="left" if name in ("depth", "layer") else "right", no_wrap=True)
    for depth in blueprint.depths:
        exchanged = blueprint.exchanged_by(depth)
        detail = blueprint.costs[depth - 1]
        by_depth.add_row(
            Text(f"{depth_bar(depth, blueprint.full_depth)} {depth}", style="cyan"),
            blueprint.by_id[f"L{depth}"].name,
            f"{detail.parameters:,}",
            f"{parameters(exchanged):,}",
            format_bytes(sum(unit.nbytes for unit in exchanged)),
            f"{detail.forward_macs / 1e6:.2f}",
            format_bytes(detail.activation_bytes),
        )
    expected = Table(box=None, pad_edge=False, show_header=False)
    expected.add_column(no_wrap=True)
    expected.add_column(justify="right", no_wrap=True)
    expected.add_row("parameters down (k)", f"{cost.down_kparams:.2f}")
    expected.add_row("parameters up (k)", f"{cost.up_kparams:.2f}")
    expected.add_row("communication (k)", Text(f"{cost.communication_kparams:.2f}", style="bold"))
    expected.add_row("forward MACs (M)", Text(f"{cost.forward_mmacs:.2f}", style="bold"))
    shape = "x".join(str(size) for size in blueprint.input_shape)
    return Group(
        Text(f"{blueprint.model} on {shape}, {blueprint.classes} classes, {blueprint.heads} heads", style="bold cyan"),
        "",
        by_depth,
        Text("exchanged: as the paper counts; bytes: float32 with buffers; MMACs, activations: a sample", style="dim"),
        "",
        Text(f"Expected per client and round under {scheme}", style="bold"),
        expected,
    )
