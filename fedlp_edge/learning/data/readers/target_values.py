"""This module converts users' targets to what a task learns: class numbers, labels of 0 or 1, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.labels import OtherLabels, class_numbers

AnyArray = npt.NDArray[Any]

NORMAL = ("normal", "ok", "good")
"""Names of the class of normal samples, in any capitals, if labels of an anomaly detection are words."""

_COARSE = 10  # classes into which partitioners sort numbers


@dataclass(frozen=True, slots=True)
class Targets:
    """Holds the targets of samples.

    Attributes:
        y: Targets, int64 [N] or float32 [N, K], as the kind says.
        names: Names of the classes by number, or of the K columns; empty if unknown.
        kind: What the targets are.
    """

    y: AnyArray
    names: tuple[str, ...]
    kind: TargetKind


def read_targets(
    raw: AnyArray,
    samples: int,
    names: tuple[str, ...],
    source: str,
    kind: TargetKind | None,
    others: OtherLabels = tuple,
) -> Targets:
    """Converts targets to those of a kind.

    Args:
        raw: Targets as the user gave them, [N] or [N, K].
        samples: Number of samples, N.
        names: Names of the classes or of the columns from the owner of the data; empty if there are none.
        source: Name of the data source in messages.
        kind: Kind that the task needs; None if no task is known yet, which takes targets for classes if they can be
            classes, else for labels if all are 0 or 1, else for numbers.
        others: Function that returns the targets of the other split, so that both splits number the classes alike.

    Raises:
        DataError: The targets cannot be of this kind.
    """
    if kind == "class":
        return Targets(*class_numbers(raw, samples, names, source, others), kind)
    if kind == "none":
        return Targets(_anomalies(raw, samples, names, source), (), kind)
    if kind is None:
        try:
            return Targets(*class_numbers(raw, samples, names, source, others), "class")
        except DataError:
            if raw.dtype.kind not in "buif" or (len(names) > 1 and raw.size == samples):  # the names are of classes
                raise
        kind = "labels" if np.isin(raw, (0, 1)).all() else "values"
    table = _table(raw, samples, source)
    if kind == "labels" and not np.isin(table, (0, 1)).all():
        row, column = np.argwhere(~np.isin(table, (0, 1)))[0].tolist()
        raise DataError(
            f"{source}: labels must be 0 or 1, but sample {row} has {table[row, column]:g} in column {column}"
        )
    if names and len(names) != table.shape[1]:
        raise DataError(f"{source}: y has {table.shape[1]} columns, but there are {len(names)} names")
    return Targets(table, names, kind)


def without_targets(samples: int, kind: TargetKind | None, source: str) -> Targets:
    """Returns the targets of samples that have none.

    Raises:
        DataError: The task needs targets.
    """
    if kind not in (None, "none"):
        raise DataError(f"{source} has no targets: only an anomaly detection learns without them")
    return Targets(np.zeros(samples, np.int64), (), "none" if kind else "class")


def coarse_classes(targets: Targets) -> npt.NDArray[np.int64]:
    """Returns class numbers by which samples are partitioned among devices, int64 [N].

    Numbers are sorted into ten classes of equal size by their first column, and labels by the first one that is set.
    """
    if targets.kind in ("class", "none"):
        y: npt.NDArray[np.int64] = targets.y
        return y
    if targets.kind == "labels":
        first = np.where(targets.y.any(axis=1), targets.y.argmax(axis=1), targets.y.shape[1])
        return np.asarray(first, np.int64)
    if not len(targets.y):
        return np.empty(0, np.int64)
    cuts = np.quantile(targets.y[:, 0], np.linspace(0, 1, _COARSE + 1)[1:-1])
    return np.asarray(np.digitize(targets.y[:, 0], cuts), np.int64)


def _table(raw: AnyArray, samples: int, source: str) -> npt.NDArray[np.float32]:
    if raw.dtype.kind == "O":
        try:
            raw = raw.astype(np.float64)
        except (TypeError, ValueError):
            raise DataError(
                f"{source}: y must hold numbers, but it holds {type(raw.flat[0]).__name__} objects"
            ) from None
    if raw.dtype.kind not in "buif":
        raise DataError(f"{source}: y must hold numbers, not {raw.dtype}: {str(raw.flat[0])[:40] if raw.size else ''}")
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.ndim > 2 and len(raw) == samples:  # a map for each sample, as of a segmentation
        raw = raw.reshape(samples, -1)
    if raw.ndim != 2 or len(raw) != samples or not raw.shape[1]:
        raise DataError(f"{source}: y must be one row a sample, [{samples}, K], but it is {list(raw.shape)}")
    with np.errstate(over="ignore"):
        table = raw.astype(np.float32)
    if not (finite := np.isfinite(table).all(axis=1)).all():
        sample = int(np.argmin(finite))
        raise DataError(f"{source}: y of sample {sample} is {raw[sample].tolist()}: remove samples without a target")
    return table


def _anomalies(raw: AnyArray, samples: int, names: tuple[str, ...], source: str) -> npt.NDArray[np.int64]:
    numbers, found = class_numbers(raw, samples, names, source)
    normal = next((number for number, name in enumerate(found) if name.lower() in NORMAL), 0)
    return np.asarray(numbers != normal, np.int64)
