"""This module decides which rows of a table make samples: series in the order of time, windows, and rows with gaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.table_rows import TableRows
from fedlp_edge.learning.data.tables.windows import WindowPlan

_PAUSE = 20  # usual steps of time between two rows, beyond which a device was off, or rows are missing

RowFlags = npt.NDArray[np.bool_]


def plan_samples(
    table: TableRows, options: TableOptions, has_target: RowFlags, source: str
) -> tuple[WindowPlan, Indices]:
    """Plans the samples of a table, and reports what is left out.

    Args:
        table: Rows of the table.
        options: Options of the table.
        has_target: Whether each row has a target, bool [R].
        source: Data specification without options, for messages.

    Returns:
        The rows of each sample, and the position in the table of each row in the order of series and time.

    Raises:
        DataError: No sample is left, or ``only`` names a group that there is not.
    """
    rows, needs = max(1, options.window), max(1, options.window) + options.horizon
    order = _order(table)
    series = table.series[order]
    time = table.time[order] if table.time is not None and needs > 1 else None
    if time is not None:
        table.skipped.repeated = int(((np.diff(time) == 0) & (np.diff(series) == 0)).sum())
    ends = np.flatnonzero(np.diff(series, append=-1)) + 1
    begins = np.concatenate([[0], ends[:-1]])
    chosen = _chosen(table, options, series[begins], source)
    unusable, has_target = _unusable(table, options, has_target, np.isin(table.series, series[begins[chosen]]))
    starts, first, last = _successive(begins[chosen], ends[chosen], needs, options.stride)
    table.skipped.short = int((ends[chosen] - begins[chosen] < needs).sum())
    if not len(starts):
        raise DataError(f"{source}: no series has the {needs} successive rows that a sample needs")
    before = np.concatenate([[0], np.cumsum(unusable[order])])
    whole = (before[starts + rows] == before[starts]) & has_target[order[starts + needs - 1]]
    if options.window:
        table.skipped.windows = int((~whole).sum())
    if not whole.any():
        hint = "; no row has a value of every feature: name some of them with features=" if table.gaps.all() else ""
        raise DataError(f"{source}: no sample is left{hint}; {table.skipped}")
    plan = WindowPlan(
        order=None if (np.diff(order) == 1).all() else order,
        starts=starts,
        window=options.window,
        horizon=options.horizon,
        first=first,
        last=last,
        timed=bool(options.window or options.time or options.horizon),
    ).take(np.flatnonzero(whole))
    if time is not None:
        table.skipped.pauses = _pauses(time, series, plan.starts, needs)
    return plan, order


def _order(table: TableRows) -> Indices:
    """Returns the positions of all rows in the order of series and time, or without times in that of the files."""
    if table.time is None:
        return np.argsort(table.series, kind="stable")
    return np.lexsort((table.time, table.series))


def _chosen(table: TableRows, options: TableOptions, series: Indices, source: str) -> Indices:
    """Returns the positions of the series that ``only`` leaves."""
    if not options.only:
        return np.arange(len(series))
    known = {name: number for number, name in enumerate(table.group_names)}
    if unknown := [name for name in options.only if name not in known]:
        listed = ", ".join(table.group_names[:10]) + (", ..." if len(table.group_names) > 10 else "")
        raise DataError(f"{source}: column {options.group!r} has no value {unknown[0]!r}; its values are {listed}")
    return np.flatnonzero(np.isin(table.group[series], [known[name] for name in options.only]))


def _unusable(
    table: TableRows, options: TableOptions, has_target: RowFlags, of_chosen: RowFlags
) -> tuple[RowFlags, RowFlags]:
    """Returns which rows no sample may have, and which have a target; counts those with gaps and without a time.

    Args:
        table: Rows of the table.
        options: Options of the table.
        has_target: Whether each row has a target, bool [R].
        of_chosen: Whether the series of each row is used, bool [R].
    """
    unusable = table.gaps | (_nowhere(table) if options.group else False)
    table.skipped.gaps = int((table.gaps & of_chosen).sum())
    if table.time is None:
        return unusable, has_target
    untimed = np.isnan(table.time)
    table.skipped.untimed = int((untimed & of_chosen).sum())
    return unusable | untimed, has_target & ~untimed  # nobody knows what a row without a time follows


def _nowhere(table: TableRows) -> RowFlags:
    """Returns which rows have no group, bool [R]."""
    if "" not in table.group_names:
        return np.zeros(len(table.series), np.bool_)
    rows = np.asarray(table.group[table.series] == table.group_names.index(""))
    table.skipped.ungrouped = int(rows.sum())
    return rows


def _successive(begins: Indices, ends: Indices, needs: int, stride: int) -> tuple[Indices, Indices, Indices]:
    """Returns the successive rows that would be samples if none of them lacked anything.

    Args:
        begins: First row of each series.
        ends: Row behind its last one.
        needs: Number of successive rows of a sample, its target included.
        stride: Number of rows from the start of a sample to that of the next.

    Returns:
        First row of each sample, and first and last row of its series; each int64 [N].
    """
    long = ends - begins >= needs
    pairs = zip(begins[long].tolist(), ends[long].tolist(), strict=True)
    starts = [np.arange(begin, end - needs + 1, stride) for begin, end in pairs]
    counts = np.asarray([len(some) for some in starts], np.int64)
    joined = np.concatenate([np.zeros(0, np.int64), *starts])
    return joined, np.repeat(begins[long], counts), np.repeat(ends[long] - 1, counts)


def _pauses(time: npt.NDArray[np.float64], series: Indices, starts: Indices, needs: int) -> tuple[int, float]:
    """Returns how many samples reach across a pause, and how many usual steps of time the longest pause is.

    Args:
        time: Time of each row, in order.
        series: Number of its series.
        starts: First row of each sample.
        needs: Number of rows of a sample, its target included.
    """
    steps = np.where(np.diff(series) == 0, np.nan_to_num(np.diff(time)), 0)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    pause = np.concatenate([[0], np.cumsum(steps > _PAUSE * usual)]) if usual else np.zeros(len(time), np.int64)
    reach = pause[starts + needs - 1] > pause[starts]
    return int(reach.sum()), float(steps.max()) / usual if reach.any() else 0.0
