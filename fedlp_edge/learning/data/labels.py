"""This module converts users' labels to class numbers.

Labels that are class numbers are kept, with gaps where a device lacks a class. All other labels (text, dates, article
numbers, one-hot columns) are numbered in the order of their sorted values, which become the class names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import normalized_name

ClassNumbers = npt.NDArray[np.int64]
AnyLabels = npt.NDArray[Any]
OtherLabels = Callable[[], Iterable[AnyLabels]]

MAX_CLASSES = 1000
"""Whole numbers below this are class numbers, and at most this many different other values may become classes."""

_MAX_EXACT = 2.0**53  # below this, float64 holds every whole number exactly


def class_numbers(
    raw: AnyLabels, samples: int, names: tuple[str, ...], source: str, others: OtherLabels = tuple
) -> tuple[ClassNumbers, tuple[str, ...]]:
    """Converts labels to class numbers.

    Args:
        raw: Labels [N] or [N, 1], or one-hot rows [N, classes].
        samples: Number of samples, N.
        names: Class names by class number from the owner of the data; empty if there are none.
        source: Name of the data source in messages.
        others: Function that returns the labels of the other split; called if the labels are not class numbers, so
            that both splits number the classes alike.

    Returns:
        Class numbers int64 [N], and class names by class number; no names where the labels are numbers alone.

    Raises:
        DataError: The labels have the wrong shape, have missing or unusable values, or do not match the names.
    """
    labels, columns = _flat(raw, samples, source)
    if columns and names and len(names) != columns:
        raise DataError(f"{source}: y has {columns} columns, one a class, but there are {len(names)} class names")
    if labels.dtype.kind == "i":
        if names and _within(labels, len(names)):
            return labels, names
        if not names and _are_class_numbers(labels):
            return labels, ()
        if len(labels) and (lowest := int(labels.min())) < 0 and not np.isin(labels, (-1, 1)).all():
            raise DataError(
                f"{source}: y must hold class numbers from 0, but it holds {lowest}: remove unlabelled samples"
            )
        if len(labels) and (labels == -1).all():
            raise DataError(f"{source}: y must hold class numbers from 0, but it holds only -1")
    if names and labels.dtype.kind == "i" and _are_class_numbers(labels):
        raise DataError(f"{source}: y goes up to {labels.max()}, but there are only {len(names)} class names, from 0")
    if names:
        return _looked_up(labels, names, source), names
    everywhere = np.unique(_texts(labels))
    for other in others():
        flat, _ = _flat(other, len(other), source)
        everywhere = np.union1d(everywhere, _texts(flat))
    if len(everywhere) > MAX_CLASSES:
        raise DataError(
            f"{source}: y holds {len(everywhere):,} different values, such as {everywhere[0]!s} and {everywhere[1]!s}; "
            f"at most {MAX_CLASSES:,} can be classes: give it class numbers from 0"
        )
    found = _in_order(everywhere)
    return _looked_up(labels, found, source), found


def _flat(raw: AnyLabels, samples: int, source: str) -> tuple[AnyLabels, int]:
    """Returns the labels as int64 or text [N], and the number of one-hot columns; 0 if the labels are not one-hot."""
    if raw.ndim == 2 and raw.shape in ((samples, 1), (1, samples)):
        raw = raw.reshape(-1)
    if raw.ndim == 2 and len(raw) == samples and raw.dtype.kind in "buif":
        if not (((raw == 0) | (raw == 1)).all() and (raw.sum(axis=1) == 1).all()):
            raise DataError(
                f"{source}: y has {raw.shape[1]} columns, and not a single 1 among zeros in each row: "
                "a sample has one class (probabilities of classes are for a task of your own)"
            )
        return raw.argmax(axis=1).astype(np.int64), raw.shape[1]
    if raw.ndim != 1 or len(raw) != samples:
        hint = ": a class for each pixel is for a task of your own (docs/tasks.md)" if raw.ndim > 2 else ""
        raise DataError(f"{source}: y must be one label a sample, [{samples}], but it is {list(raw.shape)}{hint}")
    return _numbers_or_text(raw, source), 0


def _numbers_or_text(raw: AnyLabels, source: str) -> AnyLabels:
    kind = raw.dtype.kind
    if kind == "O":
        return _numbers_or_text(_from_objects(raw, source), source)
    if kind in "bi" or (kind == "u" and (not len(raw) or int(raw.max()) <= np.iinfo(np.int64).max)):
        return raw.astype(np.int64)
    if kind == "f":
        raw = raw.astype(np.float64)
        whole = np.isfinite(raw) & (raw == np.floor(raw)) & (np.abs(raw) < _MAX_EXACT)
        if not whole.all():
            sample = int(np.argmin(whole))
            raise DataError(
                f"{source}: y must hold class numbers or names, but sample {sample} has {raw[sample]!s}; "
                "measurements are no classes"
            )
        return raw.astype(np.int64)
    if kind in "USMu":
        distinct, where = np.unique(raw, return_inverse=True)
        texts = np.asarray(
            [_normalised(value) for value in distinct.tolist()] if kind in "US" else distinct.astype(str), str
        )
        texts = texts[where.reshape(-1)]
        gaps = np.isin(texts, ("", "NaT"))
        if gaps.any():
            raise DataError(f"{source}: sample {int(np.argmax(gaps))} has no label in y")
        return _numbers_if_all_are(texts)
    raise DataError(f"{source}: y must hold class numbers from 0, or names, not {raw.dtype}")


def _normalised(value: str | bytes) -> str:
    return normalized_name(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)


def _from_objects(raw: AnyLabels, source: str) -> AnyLabels:
    """Converts labels of an object array, such as a column of a table, to an array of numbers, text or dates."""
    values = raw.tolist()
    for sample, value in enumerate(values):
        if value is None or value != value:  # noqa: PLR0124 - only NaN and NaT differ from themselves
            raise DataError(f"{source}: sample {sample} has no label in y ({value})")
    if all(isinstance(value, str | bytes) for value in values):
        values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    try:
        typed = np.asarray(values)
    except (ValueError, OverflowError):
        typed = raw
    if typed.ndim == 1 and typed.dtype.kind == "O" and all(hasattr(value, "isoformat") for value in values):
        typed = np.asarray([value.isoformat() for value in values])
    if typed.ndim != 1 or typed.dtype.kind == "O":
        raise DataError(f"{source}: y must hold class numbers from 0, or names, not {type(values[0]).__name__} objects")
    return typed


def _numbers_if_all_are(labels: AnyLabels) -> AnyLabels:
    """Converts text labels to numbers if all are plain whole numbers; "007", for example, stays a name."""
    texts = labels.tolist()
    if texts and all(text.isascii() and text.isdecimal() and text == str(int(text)) for text in set(texts)):
        numbers = [int(text) for text in texts]
        if max(numbers) <= np.iinfo(np.int64).max:
            return np.asarray(numbers, dtype=np.int64)
    return labels


def _within(labels: AnyLabels, classes: int) -> bool:
    return not len(labels) or (int(labels.min()) >= 0 and int(labels.max()) < classes)


def _are_class_numbers(labels: AnyLabels) -> bool:
    """Tells whether whole numbers are class numbers: all small, or at least half of those up to the highest occur.

    Dates and article numbers are neither.
    """
    return _within(labels, MAX_CLASSES) or _within(labels, 2 * len(np.unique(labels)))


def _texts(labels: AnyLabels) -> AnyLabels:
    return labels if labels.dtype.kind == "U" else labels.astype(str)


def _in_order(values: AnyLabels) -> tuple[str, ...]:
    texts: list[str] = values.tolist()
    try:
        return tuple(sorted(texts, key=int))
    except ValueError:
        return tuple(sorted(texts))


def _looked_up(labels: AnyLabels, names: tuple[str, ...], source: str) -> ClassNumbers:
    numbers = {name: number for number, name in enumerate(names)}
    distinct, where = np.unique(_texts(labels), return_inverse=True)
    for value in distinct.tolist():
        if value not in numbers:
            raise DataError(f"{source}: y holds {value}, but the {len(names)} classes are {_first_names(names)}")
    table = np.asarray([numbers[value] for value in distinct.tolist()], dtype=np.int64)
    return table[where.reshape(-1)] if len(labels) else np.empty(0, dtype=np.int64)


def _first_names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown
