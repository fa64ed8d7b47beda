"""This module makes samples of the rows of a table: targets, splits, windows and shapes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import alike_in_capitals
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.row_files import AnyArray
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split
from fedlp_edge.learning.data.readers.selected import ShapedReader
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets, without_targets
from fedlp_edge.learning.data.spec.data_spec import DataSpec, TableOptions
from fedlp_edge.learning.data.tables.sample_plan import plan_samples
from fedlp_edge.learning.data.tables.table_files import FOLDER
from fedlp_edge.learning.data.tables.table_rows import TableRows, read_rows
from fedlp_edge.learning.data.tables.windows import WindowPlan, WindowReader

_PICTURE = 3  # dimensions of a picture: channels, height and width
_WHITE = 255
_ROWS = 8192  # looked at together


def list_table(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    """Lists the samples of one split of a table.

    Args:
        spec: Data specification of a ``csv`` or ``parquet`` source.
        split: Split to list.
        kind: Kind of the targets; None if it is not known yet.

    Raises:
        DataError: A file is missing or unusable, or lacks a column; the message names file, line and column.
    """
    options, source = spec.table, f"{spec.source}:{spec.argument}"
    table = read_rows(spec, kind)
    targets, has_target = _targets(table, options, source, kind)
    plan, order = plan_samples(table, options, has_target, source)
    if spec.held_out is not None:
        everything = np.arange(len(plan.starts))
        if plan.timed:
            trained, held = plan.split(everything, spec.held_out)
        else:
            held = is_in_test_split(WindowReader(table.rows, plan).keys(everything), spec.held_out)
            trained = ~held
        plan = plan.take(np.flatnonzero(held if split == "test" else trained))
    targets = _of_samples(targets, plan, order, has_target)
    groups = table.group[table.series[order[plan.starts] if len(order) else plan.starts]] if options.group else None
    remarks = str(table.skipped)
    pixels = _are_pixels(table, options.shape, source) if options.shape else False

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(plan.starts)) if keep is None else keep
        reader = WindowReader(table.rows, plan if keep is None else plan.take(index))
        y = targets.y[index]
        if options.shape:
            shaped = ShapedReader(reader, options.shape, np.uint8 if pixels else np.float32)
            values = shaped.read(np.arange(len(index))) if table.rows.nbytes else shaped
            made = Samples(values, y, targets.names, index=index, remarks=remarks, targets=targets.kind)
            return made if pixels else replace(made, scale=1.0, mean=(0.0,), std=(1.0,))
        x = reader.read(np.arange(len(index))) if table.rows.nbytes and not options.window else reader
        channels = len(table.features)
        return Samples(
            x,
            y,
            targets.names,
            scale=1.0,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            index=index,
            remarks=remarks,
            targets=targets.kind,
            features=table.features,
        )

    return SampleListing(coarse_classes(targets), targets.names, samples, groups, table.group_names)


def _are_pixels(table: TableRows, shape: tuple[int, ...], source: str) -> bool:
    """Tells whether the rows are pictures in bytes: grey or RGB, of whole numbers from 0 to 255.

    Raises:
        DataError: A row has another number of features than such a sample.
    """
    if math.prod(shape) != len(table.features):
        raise DataError(
            f"{source}: shape={'x'.join(map(str, shape))} takes {math.prod(shape)} columns of numbers, and there are "
            f"{len(table.features)}: name them with features="
        )
    if len(shape) != _PICTURE or shape[0] not in (1, 3):
        return False
    whole = np.flatnonzero(~table.gaps)
    for start in range(0, len(whole), _ROWS):
        values = table.rows.take(whole[start : start + _ROWS])
        if ((values < 0) | (values > _WHITE) | (values != np.floor(values))).any():
            return False
    return True


def _has_target(values: AnyArray) -> npt.NDArray[np.bool_]:
    """Returns which values are there and can be held in float32, if they are numbers or the texts of measurements."""
    there = values != "" if values.dtype.kind == "U" else np.ones(len(values), np.bool_)
    numbers = values if values.dtype.kind == "f" else None
    if values.dtype.kind == "U" and (texts := _measurements(values[there])) is not None:
        numbers = np.full(len(values), np.nan)
        numbers[there] = texts
    return there if numbers is None else np.abs(numbers) <= np.finfo(np.float32).max


def _targets(
    table: TableRows, options: TableOptions, source: str, kind: TargetKind | None
) -> tuple[Targets, npt.NDArray[np.bool_]]:
    """Returns the targets of all rows, and which rows have one."""
    count = table.rows.shape[0]
    if not options.target:
        return without_targets(count, kind, f"{source} names no target= and"), np.ones(count, np.bool_)
    has = np.ones(count, np.bool_)
    for values in table.target:
        has &= _has_target(values)
    table.skipped.untargeted = int((~has).sum())
    raw = table.target[0][has] if len(table.target) == 1 else np.stack([v[has] for v in table.target], axis=1)
    if not len(raw):
        if options.target == (FOLDER,):
            raise DataError(f"{source}: no file lies in a folder that names its class: name the directory above them")
        raise DataError(f"{source}: no row has a target in column {options.target[0]!r}")
    if raw.dtype.kind == "U" and (numbers := _measurements(raw)) is not None:
        raw = numbers
    found = read_targets(raw, len(raw), (), source, kind)
    names = options.target if found.kind in ("labels", "values") else found.names
    table.skipped.alike = alike_in_capitals(names) if found.kind == "class" else ()
    y = np.zeros((count, *found.y.shape[1:]), found.y.dtype)
    y[has] = found.y
    return Targets(y, names, found.kind), has


def _measurements(texts: AnyArray) -> npt.NDArray[np.float64] | None:
    """Returns numbers with fractions, which are no names of classes; None for any other text."""
    try:
        numbers = texts.astype(np.float64)
    except ValueError:
        return None
    return None if (numbers == np.floor(numbers)).all() else numbers


def _of_samples(targets: Targets, plan: WindowPlan, order: Indices, has_target: npt.NDArray[np.bool_]) -> Targets:
    """Returns the target of each sample: that of its last row or ``horizon`` rows later.

    A window without a horizon is of the class of most of its rows, and of that of its last row among equally frequent.
    """
    y = targets.y[order]
    last = plan.starts + plan.rows - 1 + plan.horizon
    of_last = y[last]
    if targets.kind not in ("class", "none") or plan.horizon or plan.rows == 1 or not len(of_last):
        return Targets(of_last, targets.names, targets.kind)
    best = of_last.copy()
    most = np.zeros(len(best), np.int64)
    has = has_target[order]
    for pass_over_last in (True, False):
        for label in np.unique(y[has]):
            count = np.concatenate([[0], np.cumsum((y == label) & has)])
            inside = count[plan.starts + plan.rows] - count[plan.starts]
            better = (of_last == label) if pass_over_last else inside > most
            best[better], most[better] = label, inside[better]
    return Targets(best, targets.names, targets.kind)
