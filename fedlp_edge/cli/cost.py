"""This module implements ``fedlp cost``, which computes a model's cost under a scheme, before any training."""

from __future__ import annotations

from typing import Literal

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.depths import build_blueprint, constants_line, depth_table, title
from fedlp_edge.core.accounting import Communication, communication, parameters
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.reporting.console import open_console

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


def scheme_cost(
    blueprint: Blueprint, scheme: Scheme, lpr: float | None, depth_mix: tuple[float, ...] | None
) -> Communication:
    """Computes the expected cost of one device in one round.

    Args:
        blueprint: Blueprint of the model.
        scheme: ``fedavg`` is full depth and everything sent; ``homo`` full depth with a rate; ``hetero`` a
            mix of depths, uniform if not given, with every layer sent unless a rate is given too.
        lpr: Layer-preserving rate.
        depth_mix: Share of the devices by depth.

    Raises:
        ConfigError: An option does not go with the scheme, or the mix does not fit the model.
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
    model: ModelSettings,
    scheme: Scheme,
    lpr: float | None,
    depth_mix: str | None,
    *,
    as_json: bool,
) -> int:
    """Prints the table, or the JSON object with the keys of ``Communication``."""
    mix = parse_mix(depth_mix) if depth_mix is not None else None
    blueprint = build_blueprint(model)
    cost = scheme_cost(blueprint, scheme, lpr, mix)
    if as_json:
        print(msgspec.json.encode(rounded(cost)).decode())
    else:
        open_console().print(cost_tables(blueprint, cost, scheme))
    return 0


def rounded(cost: Communication) -> Communication:
    """Rounds the cost to a thousandth of the unit, which removes the noise of binary fractions."""
    return Communication(**{key: round(value, 3) for key, value in msgspec.structs.asdict(cost).items()})


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
