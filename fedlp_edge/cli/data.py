"""This module implements ``fedlp data``, which shows what data hold and how a partitioner distributes them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.learning.data.distribution import ClassDistribution, class_distribution
from fedlp_edge.learning.data.readers.found import FoundData, ValueRange, found_in
from fedlp_edge.learning.data.sources import list_samples
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.subset import select_indices
from fedlp_edge.reporting.console import open_console
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.printable import printable

SAMPLE_SHARE = 0.9
"""Share of a device's samples whose number of classes measures how one-sided the device's data are."""

_MAX_ROWS = 20
_MAX_NAME = 40


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """The command's JSON answer, whose keys ``docs/data.md`` describes."""

    data: str
    devices: int
    partition: str
    seed: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    remarks: str


def run_found(data: str, *, as_json: bool) -> int:
    """Prints what a device would train on, as a table or as the JSON object of ``FoundData``.

    Raises:
        DataError: the data cannot be had.
    """
    spec = parse_spec(data).whole()
    listing = list_samples(spec, "train")
    keep = select_indices(listing.labels, spec, "train", listing.groups)
    found = found_in(listing, keep)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return 0
    console = open_console()
    console.print(Text(data, style="bold cyan"), soft_wrap=True)
    if found.remarks:
        console.print(Text(found.remarks, style="yellow"), soft_wrap=True)
    console.print(_found_table(found))
    return 0


def _found_table(found: FoundData) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("samples", f"{found.samples:,}, {'in memory' if found.in_memory else 'read when they are needed'}")
    table.add_row("shape", "x".join(map(str, found.shape)))
    if found.features:
        more = f" and {len(found.features) - _MAX_ROWS:,} more" if len(found.features) > _MAX_ROWS else ""
        table.add_row("features", Text(", ".join(map(_name, found.features[:_MAX_ROWS])) + more))
    for entry in found.feature_ranges[:_MAX_ROWS]:
        table.add_row(Text(f"feature {_name(entry.name)}"), _range(entry))
    if len(found.feature_ranges) > _MAX_ROWS:
        table.add_row("", f"{len(found.feature_ranges) - _MAX_ROWS:,} more")
    what = {"labels": "label", "values": "target"}.get(found.targets, "class")
    for name, count in list(found.classes.items())[:_MAX_ROWS]:
        table.add_row(Text(f"{what} {_name(name)}"), _samples(count))
    if len(found.classes) > _MAX_ROWS:
        table.add_row("", f"{len(found.classes) - _MAX_ROWS:,} more")
    for entry in found.ranges[:_MAX_ROWS]:
        table.add_row(Text(f"{what} {_name(entry.name)}"), _range(entry))
    for name, count in list(found.groups.items())[:_MAX_ROWS]:
        table.add_row(Text(f"group {_name(name)}"), _samples(count))
    if len(found.groups) > _MAX_ROWS:
        table.add_row("", f"{len(found.groups) - _MAX_ROWS:,} more")
    return table


def _name(name: str) -> str:
    """Returns a name as it fits into a line of a table, whatever characters a file has in it."""
    return printable(name, _MAX_NAME)


def _range(entry: ValueRange) -> str:
    return f"{entry.least:.6g} to {entry.most:.6g}, mean {entry.mean:.6g}"


def _samples(count: int) -> str:
    return f"{count:,} {'sample' if count == 1 else 'samples'}"


def run_data(data: str, devices: int, partition: str, seed: int | None, plot: Path | None, *, as_json: bool) -> int:
    """Prints a table, or the JSON object of ``DataReport``; draws the picture where one is wanted.

    Raises:
        ConfigError: The picture's format is unknown, or matplotlib is missing.
        DataError: The data cannot be had, or not be partitioned so.
        StorageError: The picture cannot be written.
    """
    held = class_distribution(data, devices, partition, seed)
    partition_seed = parse_spec(data).seed if seed is None else seed
    if plot is not None:
        _draw(held, f"{data}: {partition}, {devices} devices", plot)
    if as_json:
        report = DataReport(
            data=data,
            devices=devices,
            partition=partition,
            seed=partition_seed,
            classes=held.classes,
            counts=tuple(tuple(row) for row in held.counts.tolist()),
            remarks=held.remarks,
        )
        print(msgspec.json.encode(report).decode())
        return 0
    console = open_console()
    console.print(
        Text(f"{data}, partitioned among {devices} devices as {partition}, seed {partition_seed}", style="bold cyan")
    )
    if held.remarks:
        console.print(Text(held.remarks, style="yellow"), soft_wrap=True)
    console.print(f"samples a device: {_spread(held.samples)}")
    console.print(f"classes that make up {SAMPLE_SHARE:.0%} of a device: {_spread(held.classes_for(SAMPLE_SHARE))}")
    if devices <= _MAX_ROWS:
        console.print(_table(held))
    if plot is not None:
        console.print(Text(f"picture: {plot}"), soft_wrap=True)
    return 0


def _draw(held: ClassDistribution, title: str, path: Path) -> None:
    try:
        from fedlp_edge.reporting.distribution_plot import draw_distribution  # noqa: PLC0415 - matplotlib is an extra

        draw_distribution(held.classes, held.counts, title, path)
    except ModuleNotFoundError:
        raise ConfigError(f"--plot needs matplotlib: {install_command('coordinator')}") from None
    except ValueError:
        raise ConfigError(f"--plot {path}: no such picture format; use .png, .svg or .pdf") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def _spread(values: npt.NDArray[np.int64]) -> str:
    least, median, most = int(values.min()), float(np.median(values)), int(values.max())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}, median {median:,g}"


def _table(held: ClassDistribution) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", justify="right")
    table.add_column("samples", justify="right")
    for name in held.classes:
        table.add_column(Text(_name(name)), justify="right", overflow="fold")
    for device, row in enumerate(held.counts.tolist()):
        table.add_row(str(device), f"{sum(row):,}", *(f"{count:,}" if count else "" for count in row))
    return table
