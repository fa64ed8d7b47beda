"""This module reads ``labels.csv``, which tells the labels of the files in a folder where folders of classes cannot.

A file may have several labels, or measurements. The first column is the path of a file below the folder, or its name
alone, with or without suffix, where no other file is called so; either one column follows for each label, with 0 or 1
or a number, or one column with the labels of a file, separated by ``|``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split, keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets, read_targets
from fedlp_edge.learning.data.tables.csv_format import find_format, rows_of

LABELS = "labels.csv"
"""Name of the file that lists the labels of the files in a folder."""

_GAPS = frozenset(("", "-", "?", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"))
_SEPARATORS = re.compile(r"\s*[|;,]\s*")


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Lists the files of one split that have labels.

    Attributes:
        base: The folder.
        files: Paths of the N files, sorted.
        names: Paths below the folder, in one spelling on every system.
        targets: Targets of the N files.
        remarks: One line on what is left out; empty if nothing is.
    """

    base: Path
    files: list[Path]
    names: tuple[str, ...]
    targets: Targets
    remarks: str


def find_labels(root: Path) -> Path | None:
    """Returns the path of a folder's ``labels.csv``; None if it has none, or is no folder."""
    path = root / LABELS
    return path if path.is_file() else None


def list_labelled(
    listing: Path, found: Iterable[Path], split: Split, held_out: float | None, kind: TargetKind | None
) -> LabelledFiles:
    """Lists the files of one split that a ``labels.csv`` names.

    Args:
        listing: The ``labels.csv`` of a folder.
        found: Files of the wanted type in the folder.
        split: Split to list.
        held_out: Share of the files, by a hash of their paths, that the test split has; None for all in either split.
        kind: Kind of the targets; None to take them as they look.

    Raises:
        DataError: The list cannot be read, a file stands in it twice, or the labels are not of this kind.
    """
    base = listing.parent
    known = {unicodedata.normalize("NFC", path.relative_to(base).as_posix()): path for path in found}
    labels, columns, gaps = _read(listing, known)
    names = tuple(sorted(known.keys() & labels.keys()))
    if not names:
        first = next(iter(labels), "nothing")
        raise DataError(f"{listing} names no file that is there; it names {first!r}, from {base} on")
    targets = _targets(listing, [labels[name] for name in names], columns, kind)
    lists = []
    if gaps:
        lists.append(f"{gaps:,} lines of {LABELS} without a label")
    if missing := len(labels) - len(names):
        lists.append(f"{missing:,} lines of {LABELS} whose file is missing or of another kind")
    if unnamed := len(known) - len(names):
        lists.append(f"{unnamed:,} files that {LABELS} does not name")
    keep = np.arange(len(names))
    if held_out is not None:
        keep = np.flatnonzero(is_in_test_split(keys_of_names(names), held_out) == (split == "test"))
    return LabelledFiles(
        base=base,
        files=[known[names[index]] for index in keep.tolist()],
        names=tuple(names[index] for index in keep.tolist()),
        targets=Targets(targets.y[keep], targets.names, targets.kind),
        remarks=f"left out: {', '.join(lists)}" if lists else "",
    )


def _read(listing: Path, known: Collection[str]) -> tuple[dict[str, list[str]], tuple[str, ...], int]:
    """Returns the labels by file, the names of the columns of labels, and the number of lines without a label."""
    form = find_format(listing)
    start = 0 if form.columns[0] else 1  # pandas writes its index into a column without a name
    called = _short_names(known)
    if form.columns[0].replace("\\", "/").removeprefix("./") in known:
        raise DataError(
            f"{listing}:1: the first line is that of a file: put a line of names above it, such as file,label"
        )
    columns = tuple(name for name in form.columns[start + 1 :] if name)
    if not columns:
        raise DataError(f"{listing}:1: a column of paths and at least one of labels must be named")
    labels: dict[str, list[str]] = {}
    gaps = 0
    for line, row in rows_of(listing, form):
        fields = [field.strip() for field in row][start:]
        if not any(fields):
            continue
        name = unicodedata.normalize("NFC", fields[0].replace("\\", "/")).removeprefix("./")
        name = name if name in known else called.get(name, name)
        if name in labels:
            raise DataError(f"{listing}:{line}: {name!r} stands in it twice: remove one")
        if len(fields) < len(columns) + 1:
            raise DataError(f"{listing}:{line}: {len(fields)} fields, but the header names {len(columns) + 1} columns")
        values = fields[1 : len(columns) + 1]
        if len(columns) > 1:
            if any(value in _GAPS for value in values):
                gaps += 1
                continue
            bad = next((column for column, value in zip(columns, values, strict=True) if not _is_number(value)), None)
            if bad is not None:
                raise DataError(
                    f"{listing}:{line}: column {bad!r} holds {values[columns.index(bad)]!r}, not a number: several "
                    "columns are numbers, or 0 and 1 for each label; leave out all others"
                )
        labels[name] = [value.replace(",", ".") for value in values] if form.decimal == "," else values
    return labels, columns, gaps


def _short_names(known: Collection[str]) -> dict[str, str]:
    """Returns the paths of files by their names without folders, with and without suffix, where one file has it."""
    paths: dict[str, list[str]] = {}
    for path in known:
        name = path.rpartition("/")[2]
        for called in {name, path.rpartition(".")[0], name.rpartition(".")[0]}:
            paths.setdefault(called, []).append(path)
    return {called: found[0] for called, found in paths.items() if len(found) == 1}


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _targets(listing: Path, rows: list[list[str]], columns: tuple[str, ...], kind: TargetKind | None) -> Targets:
    if len(columns) > 1:
        table = np.asarray([[float(value) for value in row] for row in rows])
        made = kind or ("labels" if np.isin(table, (0, 1)).all() else "values")
        return read_targets(table, len(rows), columns if made != "class" else (), str(listing), made)
    texts = [row[0] for row in rows]
    several = [[name for name in _SEPARATORS.split(text) if name] for text in texts]
    if kind == "labels" or (kind is None and any(len(names) > 1 for names in several)):
        names = tuple(sorted({name for some in several for name in some}))
        table = np.asarray([[name in some for name in names] for some in several], np.float32)
        return Targets(table.reshape(len(rows), len(names)), names, "labels")
    if kind == "values":
        return read_targets(_floats(listing, texts), len(rows), columns, str(listing), kind)
    return read_targets(np.asarray(texts), len(rows), (), str(listing), kind)


def _floats(listing: Path, texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    bad = next((text for text in texts if not _is_number(text)), None)
    if bad is not None:
        raise DataError(f"{listing}: {bad!r} is not a number")
    return np.asarray([float(text.replace(",", ".")) for text in texts])
