"""This module implements ``fedlp bench``, which measures how fast exported models answer on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.models.choose import choice_line, choose_measured
from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.export.inference import Classifier, load_sample, require_onnxruntime
from fedlp_edge.learning.export.inputs.inference_inputs import find_inputs
from fedlp_edge.learning.export.latency import PERCENTILES, Latency, measure
from fedlp_edge.probe.profiles import find_profile
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_bytes, format_share
from fedlp_edge.system.lifecycle import EXIT_ERROR, EXIT_INCOMPLETE, print_error
from fedlp_edge.system.processor_info import processor_name

_PIPED_COLUMNS = 500  # a program that reads the pipe needs whole lines

MAX_SAMPLES = 256
"""Samples of a folder that are run in turn; more would say no more about the time."""


def run_bench(
    models: Sequence[Path],
    samples: Sequence[Path],
    threads: int,
    seconds: float,
    *,
    as_json: bool,
    profile: str | None = None,
) -> int:
    """Measures files one after the other, and prints one line for each.

    Args:
        models: ONNX files, and folders of them.
        samples: Pictures, ``.npy`` files or folders to run; random values if empty.
        threads: Threads of onnxruntime; 0 for one per core.
        seconds: Time to measure each file for.
        as_json: Whether to print one JSON object a line instead of a table.
        profile: Name or path of a device profile, for which one of the files is chosen; its threads count unless some
            are given. None to choose none.

    Returns:
        0; 3 if some file could not be measured, 2 if none could.

    Raises:
        ConfigError: There is no such profile.
        DataError: There is no model, or a sample cannot be used.
        ExportError: The samples need a model that says how to prepare them, and it does not.
        OperatorError: onnxruntime is not installed.
    """
    require_onnxruntime()
    chosen_for = None if profile is None else find_profile(profile)
    threads = threads or (chosen_for.threads or 0 if chosen_for is not None else 0)
    files = _files(models)
    measured: list[Latency] = []
    for file in files:
        try:
            latency = measure(file, threads=threads, seconds=seconds, samples=_samples(file, samples))
        except ExportError as error:
            print_error(str(error))
            continue
        measured.append(latency)
        if as_json:
            print(msgspec.json.encode(latency).decode(), flush=True)
    if measured and not as_json:
        _print_table(measured, threads)
        if not samples and any(latency.exits for latency in measured):
            print(
                "warning: random samples leave at other exits than real ones; give some with --samples", file=sys.stderr
            )
    if measured and chosen_for is not None:
        choice = choose_measured({Path(latency.file): latency for latency in measured}, chosen_for)
        print(msgspec.json.encode(choice).decode() if as_json else choice_line(choice, chosen_for), flush=True)
    if len(measured) == len(files):
        return 0
    return EXIT_INCOMPLETE if measured else EXIT_ERROR


def _files(models: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in models:
        found = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} holds no .onnx file")
        files += found
    return files


def _samples(model: Path, given: Sequence[Path]) -> npt.NDArray[Any] | None:
    if not given:
        return None
    metadata = Classifier(model).onnx_metadata
    files = find_inputs(given, metadata).files
    chosen = files[:: max(1, len(files) // MAX_SAMPLES)][:MAX_SAMPLES]
    return np.stack([load_sample(file, metadata)[0] for file in chosen])


def _print_table(measured: Sequence[Latency], threads: int) -> None:
    console = open_console()
    if not console.is_terminal:
        console.width = _PIPED_COLUMNS
    cores = f"{threads} thread{'s' if threads > 1 else ''}" if threads else f"{os.cpu_count()} cores"
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=f"{processor_name()}, {cores}", title_justify="left"
    )
    table.add_column("file", overflow="fold")
    for share in PERCENTILES:
        table.add_column(f"{share} %", justify="right", no_wrap=True)
    for name in ("mean", "CPU time", "memory", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    with_exits = any(latency.exits for latency in measured)
    if with_exits:
        table.add_column("stopped at depth", no_wrap=True)
    for latency in measured:
        cells = [f"{latency.milliseconds[share]:.2f} ms" for share in PERCENTILES]
        cells += [f"{milliseconds:.2f} ms" for milliseconds in (latency.mean_milliseconds, latency.cpu_milliseconds)]
        cells += [format_bytes(latency.memory), format_bytes(latency.size)]
        if with_exits:
            cells.append(", ".join(f"{depth}: {format_share(share)}" for depth, share in latency.exits.items()))
        table.add_row(Text(Path(latency.file).name), *cells)
    console.print(table)
