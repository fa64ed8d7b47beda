"""This module prints what an export has written."""

from __future__ import annotations

import sys
from pathlib import Path

from fedlp_edge.core.model_card import CardEntry, ModelCard
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_bytes, format_metric, format_share, metric_label
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE, print_error

INT8_SHARE = 0.3
"""Share of the bytes of the float32 file that an int8 file may have before the export says why it is not less."""


def _large_for_int8(card: ModelCard) -> tuple[CardEntry, ...]:
    """Returns the int8 files that have more than ``INT8_SHARE`` of the bytes of their float32 file."""
    floats = {(entry.depth, entry.exits): entry.bytes for entry in card.files if entry.precision == "fp32"}
    return tuple(
        entry
        for entry in card.files
        if entry.precision == "int8"
        and entry.bytes > INT8_SHARE * floats.get((entry.depth, entry.exits), entry.bytes * 9)
    )


def report(card: ModelCard, directory: Path, trained: set[int]) -> int:
    """Prints a line for each file, and warnings of what is missing or worth less than it should be.

    Args:
        card: Card of the files.
        directory: Directory of the files.
        trained: Depths whose exits some device trained.

    Returns:
        0, or ``EXIT_INCOMPLETE`` if a file is missing or is worth clearly less than that in float32.
    """
    console = open_console()
    for entry in card.files:
        value = (
            "" if entry.value is None else f"{metric_label(card.metric)} {format_metric(card.metric, entry.value)}, "
        )
        cost = "" if entry.cost is None else f"{entry.cost.mean_milliseconds:.2f} ms, "
        beside = f" with {entry.weights_file}" if entry.weights_file else ""
        what = f"exits {', '.join(map(str, entry.exits))}" if entry.exits else f"depth {entry.depth}"
        console.print(
            f"{directory / entry.file}{beside}: {what}, round {card.round}, {value}{format_bytes(entry.bytes)}, {cost}"
            f"differs from PyTorch by at most {entry.max_abs_diff:.1e}, "
            f"same answer for {format_share(entry.agreement)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not card.samples:
        print(
            "warning: the files were compared with PyTorch on made inputs, and nothing says what they are worth; "
            "name samples with --data",
            file=sys.stderr,
        )
    for entry in _large_for_int8(card):
        print(
            f"note: {entry.file} is small, and its graph, scales and metadata take as many bytes as in a large one: "
            f"8 bits do not save it to {INT8_SHARE:g} times the size",
            file=sys.stderr,
        )
    if card.calibration.startswith("made inputs"):
        print(f"warning: the ranges of int8 files come from {card.calibration}", file=sys.stderr)
    worth = "it answers at random" if card.answer == "exit" else "it is one of those whose mean the file answers with"
    for exit_depth in sorted({entry.depth for entry in card.files if not entry.exits} - trained):
        print(f"warning: no device trained exit {exit_depth}; {worth}", file=sys.stderr)
    for entry in card.files:
        if entry.warning:
            print(f"warning: {entry.file}: {entry.warning}", file=sys.stderr)
    for refused in card.refused:
        what = "early-exit" if refused.early_exit else f"depth {refused.depth}"
        kind = "ONNX" if refused.precision == "fp32" else refused.precision
        print_error(f"{what} has no {kind} file: {refused.reason}")
    return EXIT_INCOMPLETE if card.refused or any(entry.warning for entry in card.files) else 0
