"""This module turns the rows of tables into samples: series by group and time, windows, gaps, targets and splits."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import alike_in_capitals
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.groups import numbered_groups
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.row_files import AnyArray, Rows, RowSpool
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split
from fedlp_edge.learning.data.readers.selected import ShapedReader
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets, without_targets
from fedlp_edge.learning.data.spec.data_spec import DataSpec, TableOptions
from fedlp_edge.learning.data.tables.formats.mended_lines import is_blank
from fedlp_edge.learning.data.tables.row_counters import RowCounters
from fedlp_edge.learning.data.tables.table_files import FOLDER, TableFile
from fedlp_edge.learning.data.tables.table_folders import copies_in, file_names, folder_name, table_files
from fedlp_edge.learning.data.tables.table_report import TableReport
from fedlp_edge.learning.data.tables.windows import WindowPlan, WindowReader
from fedlp_edge.system.machine_cache import cache_directory

_WHOLE_WITH_EXPONENT = re.compile(r"\d(\.\d+)?[eE][+-]?0?\d")  # as numpy.savetxt writes numbers of classes
_PICTURE = 3  # dimensions of a picture: channels, height and width
_WHITE = 255
_ROWS = 8192  # looked at together
_PAUSE = 20  # usual steps of time between two rows, beyond which a device was off, or rows are missing


@dataclass
class _Table:
    """Holds what was read of all files.

    Attributes:
        rows: Features, float32 [R, F].
        features: Names of the F features.
        target: Values of each target column, [R].
        series: Number of the series of each row, int64 [R]: of one group in one file.
        group: Number of the group of each series, int64.
        group_names: Names of the groups by number.
        time: Time of each row, float64 [R], NaN where it is missing; None if the order in the files counts.
        gaps: Whether a feature of each row has no value, bool [R].
        skipped: What is left out.
    """

    rows: Rows
    features: tuple[str, ...]
    target: list[AnyArray]
    series: Indices
    group: Indices
    group_names: tuple[str, ...]
    time: npt.NDArray[np.float64] | None
    gaps: npt.NDArray[np.bool_]
    skipped: TableReport = field(default_factory=TableReport)


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
    table = _read(spec, kind)
    targets, has_target = _targets(table, options, source, kind)
    plan, order = _planned(table, options, has_target, source)
    if spec.held_out is not None:
        everything = np.arange(len(plan.starts))
        if plan.timed:
            trained, held = plan.split(everything, spec.held_out)
        else:
            held = is_in_test_split(WindowReader(table.rows, plan).keys(everything), spec.held_out)
            trained = ~held
        plan = _some(plan, np.flatnonzero(held if split == "test" else trained))
    targets = _of_samples(targets, plan, order, has_target)
    groups = table.group[table.series[order[plan.starts] if len(order) else plan.starts]] if options.group else None
    remarks = str(table.skipped)
    pixels = _are_pixels(table, options.shape, source) if options.shape else False

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(plan.starts)) if keep is None else keep
        reader = WindowReader(table.rows, plan if keep is None else _some(plan, index))
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


def _are_pixels(table: _Table, shape: tuple[int, ...], source: str) -> bool:
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


def _read(spec: DataSpec, kind: TargetKind | None) -> _Table:
    options = spec.table
    empty, files = _opened(spec, kind)
    features = options.features or files[0].numbers
    if not features:
        raise DataError(_no_numbers(files[0]))
    spool = RowSpool(spec.memory_bound, cache_directory("tables"))
    guessed = next((str(file.path) for file in files if file.reader.guessed_encoding), "")
    unused = not options.features
    skipped = TableReport(
        empty,
        guessed=guessed,
        text=files[0].text * unused,
        times=files[0].times * unused,
        nested=files[0].nested * unused,
        lists=files[0].lists * unused,
        units=files[0].units if unused else {},
        unnamed=files[0].reader.unnamed * unused,
    )
    counters = RowCounters(() if options.features else features)
    without = np.zeros(len(features), np.int64)
    names: dict[str, int] = {}
    series_of: dict[tuple[int, int], int] = {}
    target: list[list[AnyArray]] = [[] for _ in options.target]
    series: list[Indices] = []
    times: list[npt.NDArray[np.float64]] = []
    gaps: list[npt.NDArray[np.bool_]] = []
    for number, file in enumerate(files):
        if not options.features and set(file.numbers) != set(features):
            odd = min(set(file.numbers) ^ set(features))
            raise DataError(
                f"{file.path}: its columns of numbers are not those of {files[0].path}, see {odd!r}: mend it, or name "
                "those that all files have with features="
            )
        first = 0
        before = len(target[0]) if target else 0
        counters.begin()
        for part in file.parts(features):
            finite = np.isfinite(part.features)
            without += (~finite).sum(axis=0)
            counters.look_at(part.features)
            rows_with_gaps = np.asarray(~finite.all(axis=1))
            if rows_with_gaps.any() and not skipped.first_gap:
                row = int(np.argmax(rows_with_gaps))
                column = features[int(np.argmin(finite[row]))]
                skipped.first_gap = f"{file.place(first + row)}, column {column!r}"
            spool.add(part.features)
            gaps.append(rows_with_gaps)
            for column_values, values in zip(target, part.target, strict=True):
                column_values.append(values)
            if part.time is not None:
                times.append(part.time)
            series.append(_series(part.group, len(part.features), number, names, series_of))
            first += len(part.features)
        _leave_out_cut_class(file, [columns[before:] for columns in target])
    worst = int(np.argmax(without))
    skipped.rows, skipped.sparse = (
        sum(map(len, series)),
        (features[worst], int(without[worst])) if len(features) > 1 else ("", 0),
    )
    skipped.counters = counters.names
    skipped.copies = tuple(file.relative_to(spec.path).as_posix() for file in copies_in([file.path for file in files]))
    _take_notes(skipped, files)
    if not sum(map(len, series)):
        raise DataError(f"{spec.source}:{spec.argument} has no rows")
    group = np.fromiter((key[1] for key in series_of), np.int64, len(series_of))
    table = _Table(
        rows=spool.finish(),
        features=tuple(features),
        target=[_joined(values) for values in target],
        series=np.concatenate(series),
        group=group,
        group_names=tuple(names),
        time=np.concatenate(times) if times else None,
        gaps=np.concatenate(gaps),
        skipped=skipped,
    )
    return _numbered_by_name(table)


def _opened(spec: DataSpec, kind: TargetKind | None) -> tuple[int, list[TableFile]]:
    """Returns how many files are empty, and all others; all of them if none has rows, for the message."""
    paths = table_files(spec.path, spec.source)
    written = [path for path in paths if not is_blank(path)] or paths
    files = [
        TableFile(path, spec.source, spec.table, kind, name, folder_name(path, spec.path))
        for path, name in zip(written, file_names(written, spec.path), strict=True)
    ]
    filled = [file for file in files if file.reader.has_rows]  # a logger begins a day with the names of its columns
    return (len(paths) - len(filled), filled) if filled else (0, files)


def _leave_out_cut_class(file: TableFile, target: list[list[AnyArray]]) -> None:
    """Empties the last class of a file that ends within a line, if it is nothing but the beginning of another one.

    Such a file is being written: what a logger has not written yet stands in its memory.

    Args:
        file: The file.
        target: Its values of each target column, in parts.
    """
    parts = target[0] if len(target) == 1 and file.reader.ends_within_a_line else []
    if not parts or not len(parts[-1]) or any(part.dtype.kind != "U" for part in parts):
        return
    last = str(parts[-1][-1])
    known = set().union(*(np.unique(part).tolist() for part in [*parts[:-1], parts[-1][:-1]]))
    if last and last not in known and any(name.startswith(last) for name in known):
        parts[-1][-1] = ""


def _no_numbers(file: TableFile) -> str:
    if file.nested:
        return (
            f"{file.path}: no column of numbers is left for the model, but {file.nested[0]!r} holds pictures, lists or "
            f"records: pictures and lists of one length are read by huggingface:{file.path}"
        )
    if file.lists:
        return (
            f"{file.path}: no column of numbers is left for the model, but {file.lists[0]!r} holds several in each "
            "field: a function of yours can take them apart, module:callable (docs/data.md has an example)"
        )
    return f"{file.path}: no column of numbers is left for the model: name them with features="


def _take_notes(report: TableReport, files: list[TableFile]) -> None:
    """Takes over what the files have found out about their values."""
    report.marks = {name: mark for file in files for name, mark in file.marks.items()}
    report.far = {name: value for file in files for name, value in file.far.items() if name not in report.marks}
    report.headers = sum(file.reader.headers for file in files)
    report.zeroed = sum(file.reader.zeroed for file in files)
    report.line_of_units = any(file.reader.line_of_units for file in files)
    report.gap_words = tuple(sorted(set().union(*(file.gap_words for file in files))))


def _series(
    group: AnyArray | None, count: int, file: int, names: dict[str, int], series_of: dict[tuple[int, int], int]
) -> Indices:
    """Returns the number of the series of each row, and adds new groups and series to what is known."""
    if group is None:
        group = np.full(count, "")
    found, where = np.unique(group, return_inverse=True)
    numbers = [
        series_of.setdefault((file, names.setdefault(name, len(names))), len(series_of)) for name in found.tolist()
    ]
    return np.asarray(numbers, np.int64)[where.reshape(-1)]


def _joined(parts: list[AnyArray]) -> AnyArray:
    if len({part.dtype.kind in "US" for part in parts}) > 1:
        parts = [part.astype(str) for part in parts]
    joined = np.concatenate(parts)
    return _as_numbers(joined) if joined.dtype.kind == "U" else joined


def _as_numbers(texts: AnyArray) -> AnyArray:
    """Converts a column of text to whole numbers if all fields are such numbers, or numbers such as 1.0 or 1.0e+00."""
    distinct, where = np.unique(texts, return_inverse=True)
    made = []
    for written in distinct.tolist():
        is_whole = _WHOLE_WITH_EXPONENT.fullmatch(written) and float(written).is_integer()
        text = str(int(float(written))) if is_whole else written
        number, _, rest = text.partition(".")
        if text and not (
            number.isascii() and number.isdecimal() and number == str(int(number)) and not rest.strip("0")
        ):
            return texts
        made.append(number if text else "")
    return np.asarray(made)[where.reshape(-1)]


def _numbered_by_name(table: _Table) -> _Table:
    """Numbers the groups in the order of their names, so that all devices number them alike."""
    numbers, table.group_names = numbered_groups(table.group_names)
    table.group = numbers[table.group]
    return table


def _has_target(values: AnyArray) -> npt.NDArray[np.bool_]:
    """Returns which values are there and can be held in float32, if they are numbers or the texts of measurements."""
    there = values != "" if values.dtype.kind == "U" else np.ones(len(values), np.bool_)
    numbers = values if values.dtype.kind == "f" else None
    if values.dtype.kind == "U" and (texts := _measurements(values[there])) is not None:
        numbers = np.full(len(values), np.nan)
        numbers[there] = texts
    return there if numbers is None else np.abs(numbers) <= np.finfo(np.float32).max


def _targets(
    table: _Table, options: TableOptions, source: str, kind: TargetKind | None
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


def _planned(
    table: _Table, options: TableOptions, has_target: npt.NDArray[np.bool_], source: str
) -> tuple[WindowPlan, Indices]:
    """Returns the rows of each sample, and the position in the table of each row in the order of series and time."""
    series, skipped = table.series, table.skipped
    rows, needs = max(1, options.window), max(1, options.window) + options.horizon
    order = np.lexsort((table.time, series)) if table.time is not None else np.argsort(series, kind="stable")
    sorted_already = bool((np.diff(order) == 1).all())
    ends = np.flatnonzero(np.diff(series[order], append=-1)) + 1
    if table.time is not None and needs > 1:
        same = (np.diff(table.time[order]) == 0) & (np.diff(series[order]) == 0)
        skipped.repeated = int(same.sum())
    begins = np.concatenate([[0], ends[:-1]])
    chosen = _chosen(table, options, series[order[begins]], source)
    unused = table.gaps[order] | (_nowhere(table)[order] if options.group else False)
    used_series = np.isin(series, series[order[begins[chosen]]])
    skipped.gaps = int((table.gaps & used_series).sum())
    if table.time is not None:
        untimed = np.isnan(table.time)
        unused |= untimed[order]
        has_target = has_target & ~untimed  # such a row is no target either, as nobody knows what it follows
        skipped.untimed = int((untimed & used_series).sum())
    starts, firsts, lasts = [], [], []
    for begin, end in zip(begins[chosen].tolist(), ends[chosen].tolist(), strict=True):
        if end - begin < needs:
            skipped.short += 1
            continue
        some = np.arange(begin, end - needs + 1, options.stride)
        starts.append(some)
        firsts.append(np.full(len(some), begin))
        lasts.append(np.full(len(some), end - 1))
    if not starts:
        raise DataError(f"{source}: no series has the {needs} successive rows that a sample needs")
    start, first, last = np.concatenate(starts), np.concatenate(firsts), np.concatenate(lasts)
    bad = np.concatenate([[0], np.cumsum(unused)])
    whole = (bad[start + rows] - bad[start] == 0) & has_target[order[start + needs - 1]]
    if options.window:
        skipped.windows = int((~whole).sum())
    if not whole.any():
        hint = "; no row has a value of every feature: name some of them with features=" if table.gaps.all() else ""
        raise DataError(f"{source}: no sample is left{hint}; {skipped}")
    if table.time is not None and needs > 1:
        skipped.pauses = _pauses(table.time[order], series[order], start[whole], needs)
    timed = bool(options.window or options.time or options.horizon)
    plan = WindowPlan(
        order=None if sorted_already else order,
        starts=start[whole],
        window=options.window,
        horizon=options.horizon,
        first=first[whole],
        last=last[whole],
        timed=timed,
    )
    return plan, order


def _pauses(time: npt.NDArray[np.float64], series: Indices, starts: Indices, rows: int) -> tuple[int, float]:
    """Returns how many samples reach across a pause, and how many usual steps of time the longest pause is.

    Args:
        time: Time of each row, in order.
        series: Number of its series.
        starts: First row of each sample.
        rows: Number of rows of a sample, its target included.
    """
    steps = np.where(np.diff(series) == 0, np.nan_to_num(np.diff(time)), 0)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    pause = np.concatenate([[0], np.cumsum(steps > _PAUSE * usual)]) if usual else np.zeros(len(time), np.int64)
    reach = pause[starts + rows - 1] > pause[starts]
    return int(reach.sum()), float(steps.max()) / usual if reach.any() else 0.0


def _nowhere(table: _Table) -> npt.NDArray[np.bool_]:
    """Returns which rows have no group, bool [R]."""
    if "" not in table.group_names:
        return np.zeros(len(table.series), np.bool_)
    rows = np.asarray(table.group[table.series] == table.group_names.index(""))
    table.skipped.ungrouped = int(rows.sum())
    return np.asarray(rows)


def _chosen(table: _Table, options: TableOptions, series: Indices, source: str) -> Indices:
    """Returns the positions of the series that ``only`` leaves."""
    if not options.only:
        return np.arange(len(series))
    known = {name: number for number, name in enumerate(table.group_names)}
    if unknown := [name for name in options.only if name not in known]:
        listed = ", ".join(table.group_names[:10]) + (", ..." if len(table.group_names) > 10 else "")
        raise DataError(f"{source}: column {options.group!r} has no value {unknown[0]!r}; its values are {listed}")
    return np.flatnonzero(np.isin(table.group[series], [known[name] for name in options.only]))


def _some(plan: WindowPlan, index: Indices) -> WindowPlan:
    return WindowPlan(
        plan.order, plan.starts[index], plan.window, plan.horizon, plan.first[index], plan.last[index], plan.timed
    )


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
