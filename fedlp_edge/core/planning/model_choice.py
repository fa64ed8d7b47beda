"""This module chooses among the files of one model by what they cost on a device: depth, precision, early exits.

A file in int8 can be slower than one in float32, and one with early exits slower than a shallow one. So a device
measures what it is offered. Of the files within its limits those count that are worth about as much as the best, and
of these the fastest is chosen; where two are about equally fast, the better one, then the one with more bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fedlp_edge.core.model_card import MeasuredCost

WORTH_LESS = 0.01
"""How much less a file may be worth than the best and still count: one point of a share, 1 % of another metric."""

EQUALLY_FAST = 0.05
"""Share of the time by which files are about equally fast: what two measurements of one file differ by."""

_BITS = {"fp32": 32, "fp16": 16, "int8": 8}
_MEGABYTE = 1e6


class AnswerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer may take on a device.

    Attributes:
        milliseconds: Most milliseconds of nine answers out of ten; None for any number.
        memory: Most bytes of the process that answers, on top of the runtime; None for any number.
    """

    milliseconds: float | None = None
    memory: int | None = None


NO_LIMITS = AnswerLimits()
"""The limits of a device whose owner states none."""


class MeasuredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and what it costs on the device.

    Attributes:
        file: Name of the file.
        depth: Depth of the model.
        precision: How the numbers of the file are stored.
        value: What the file is worth by the metric of the model; None if it is not known.
        warning: What the export warned of; empty for nothing.
        cost: What an answer costs on the device; None if the file does not run there.
    """

    file: str
    depth: int
    precision: str
    value: float | None = None
    warning: str = ""
    cost: MeasuredCost | None


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The file that is chosen.

    Attributes:
        file: Name of the file.
        reason: Why, in one line.
        fits: Whether the file is within the limits.
    """

    file: str
    reason: str
    fits: bool = True


def choose_model(files: Sequence[MeasuredFile], limits: AnswerLimits, *, higher: bool = True) -> ModelChoice | None:
    """Chooses a file; None if no file runs on the device.

    Args:
        files: Files that were measured on the device.
        limits: What an answer may take.
        higher: Whether a higher value is a better one.
    """
    running = [(file, file.cost) for file in files if file.cost is not None]
    if not running:
        return None
    fitting = [(entry, cost) for entry, cost in running if _fits(cost, limits)]
    if not fitting:
        entry, cost = min(running, key=lambda pair: (pair[1].mean_milliseconds, pair[1].memory))
        return ModelChoice(
            file=entry.file,
            reason=f"{_figures(cost)}: none keeps {_limits(limits)}, and this is the fastest",
            fits=False,
        )
    good = _worth_most(fitting, higher=higher)
    fastest = min(cost.mean_milliseconds for _, cost in good)
    alike = [pair for pair in good if pair[1].mean_milliseconds <= (1 + EQUALLY_FAST) * fastest]
    entry, cost = max(alike, key=lambda pair: _rank(*pair, higher=higher))
    return ModelChoice(file=entry.file, reason=_reason(entry, cost, good, limits))


def _fits(cost: MeasuredCost, limits: AnswerLimits) -> bool:
    slow = limits.milliseconds is not None and cost.milliseconds.get(90, cost.mean_milliseconds) > limits.milliseconds
    large = limits.memory is not None and cost.memory > limits.memory
    return not slow and not large


def _worth_most(
    files: list[tuple[MeasuredFile, MeasuredCost]], *, higher: bool
) -> list[tuple[MeasuredFile, MeasuredCost]]:
    """Returns the files that are worth about as much as the best; without values the deepest, by which no other is."""
    values = [entry.value for entry, _ in files if entry.value is not None]
    if len(values) < len(files):
        deepest = max(entry.depth for entry, _ in files)
        return [pair for pair in files if pair[0].depth == deepest and not pair[0].warning] or [
            pair for pair in files if pair[0].depth == deepest
        ]
    best = max(values) if higher else min(values)
    slack = WORTH_LESS * max(1.0, abs(best)) if higher else WORTH_LESS * abs(best)
    return [pair for pair in files if abs((pair[0].value or 0.0) - best) <= slack]


def _rank(entry: MeasuredFile, cost: MeasuredCost, *, higher: bool) -> tuple[float, int, float, str]:
    value = entry.value or 0.0
    return (value if higher else -value, _BITS.get(entry.precision, 0), -cost.mean_milliseconds, entry.file)


def _reason(
    entry: MeasuredFile, cost: MeasuredCost, good: list[tuple[MeasuredFile, MeasuredCost]], limits: AnswerLimits
) -> str:
    others = sorted((pair for pair in good if pair[0].file != entry.file), key=lambda pair: pair[1].mean_milliseconds)
    asked = _limits(limits)
    within = f" within {asked}" if asked else ""
    if not others:
        return f"{_figures(cost)}: no other file{within} is worth as much"
    other, slower = others[0]
    return f"{_figures(cost)}: the fastest{within} of those worth as much; {other.file} takes {_ms(slower)}"


def _figures(cost: MeasuredCost) -> str:
    return f"{_ms(cost)} an answer, {cost.memory / _MEGABYTE:.0f} MB"


def _ms(cost: MeasuredCost) -> str:
    return f"{cost.mean_milliseconds:.3g} ms"


def _limits(limits: AnswerLimits) -> str:
    parts = [] if limits.milliseconds is None else [f"{limits.milliseconds:g} ms"]
    parts += [] if limits.memory is None else [f"{limits.memory / _MEGABYTE:.0f} MB"]
    return " and ".join(parts)
