"""This module builds a split model in a worker process and shows it as a table with one row per depth.

The worker builds the model, so the command needs no torch, and a model that does not fit into memory gives a message.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings, is_custom
from fedlp_edge.errors import ConfigError, FedLPError, WorkerError
from fedlp_edge.reporting.formatting import depth_bar, format_bytes
from fedlp_edge.worker.jobs import Build, Built, ExportTried, TryExport, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

_BUILD_SECONDS = 600.0
_EXPORT_SECONDS = 600.0


def parse_input(text: str) -> tuple[int, ...]:
    """``3x32x32`` as ``(3, 32, 32)``.

    Raises:
        ConfigError: The text is no such shape.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--input {text}: write the shape of one sample as 3x32x32 (channels x height x width)")
    return tuple(int(part) for part in parts)


def build_blueprint(model: ModelSettings, *, steps: bool = False) -> Blueprint:
    """The blueprint of a model, built by a worker process; with ``steps``, costs say what a training step takes.

    Raises:
        ModelError: The model is unknown, or cannot be built or split.
        WorkerError: The worker failed.
    """
    with _worker(model) as worker:
        return _built(model, worker, steps=steps)


def build_and_try_export(model: ModelSettings) -> tuple[Blueprint, str]:
    """The blueprint of a model with what a training step takes, and why it cannot be exported, in one line.

    Models that have names here are known to be exported and not tried; the line is empty for them.

    Raises:
        ModelError: The model is unknown, or cannot be built or split.
        WorkerError: The worker failed while it built the model.
    """
    with _worker(model) as worker, tempfile.TemporaryDirectory(prefix="fedlp-plan-") as directory:
        blueprint = _built(model, worker, steps=True)
        if not is_custom(model.name):
            return blueprint, ""
        try:
            job = TryExport(model=model, depths=tuple(blueprint.depths), directory=directory)
            tried = worker.call(job, timeout=_EXPORT_SECONDS)
        except FedLPError as error:
            return blueprint, f"whether the model can be exported was not found out: {error}"
    if not isinstance(tried, ExportTried) or not tried.refused:
        return blueprint, ""
    wanted = tried.left_of(blueprint.depths) or '"none"'
    return blueprint, f"{tried.reason}; a run needs [export] depths = {wanted}"


def _worker(model: ModelSettings) -> WorkerProcess:
    # The user named the model on this command line, so its code may run.
    return WorkerProcess(WorkerOptions(threads=1, device="cpu", allow_models=(model.name, model.task)))


def _built(model: ModelSettings, worker: WorkerProcess, *, steps: bool) -> Blueprint:
    built = worker.call(Build(model=model, steps=steps), timeout=_BUILD_SECONDS)
    if not isinstance(built, Built):
        raise WorkerError(f"the worker answered a build with {type(built).__name__}")
    return built.blueprint


def title(blueprint: Blueprint) -> Text:
    """The model in one line."""
    shape = "x".join(str(size) for size in blueprint.input_shape)
    words = f"{blueprint.model} on {shape}, {blueprint.classes} classes, {blueprint.head_mode} heads"
    return Text(words, style="bold cyan")


def exchanged_bytes(blueprint: Blueprint, depth: int) -> int:
    """Returns the bytes that a device of this depth downloads, as float32 with buffers."""
    return sum(unit.nbytes for unit in blueprint.exchanged_by(depth))


def constants_line(blueprint: Blueprint) -> Text | None:
    """Returns a line on what no training changes, such as frozen layers; None if the model has nothing of the kind."""
    nbytes = sum(unit.fixed.nbytes for unit in blueprint.exchanged_by(blueprint.full_depth))
    if not nbytes:
        return None
    words = f"not trained: {format_bytes(nbytes)} at full depth, downloaded once and in none of the figures of bytes"
    return Text(words, style="dim")


def depth_table(blueprint: Blueprint, column: str, cell: Callable[[int], str]) -> Table:
    """A row per depth: the last layer, and what it costs; ``saved`` is what autograd keeps for the backward pass.

    Args:
        blueprint: Blueprint of the model.
        column: Heading of one more column.
        cell: Function that returns the column's text for a depth.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("depth", "layer", "parameters", "bytes", "MMACs", "saved", column):
        table.add_column(name, justify="left" if name in ("depth", "layer") else "right", no_wrap=name != "layer")
    for depth in blueprint.depths:
        cost = blueprint.costs[depth - 1]
        table.add_row(
            Text(f"{depth_bar(depth, blueprint.full_depth)} {depth}", style="cyan"),
            blueprint.by_id[f"L{depth}"].name,
            f"{cost.parameters:,}",
            format_bytes(exchanged_bytes(blueprint, depth)),
            f"{cost.forward_macs / 1e6:.2f}",
            format_bytes(cost.activation_bytes),
            cell(depth),
        )
    return table
