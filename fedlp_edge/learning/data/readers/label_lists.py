"""This module reads ``labels.csv``, which tells the labels of the files in a folder where folders of classes cannot.

A file may have several labels, or measurements. The first column that names files has the path of each below the
folder, or its name alone, with or without suffix, where no other file is called so. Where the list was written on
another machine, the folders above may stand before all paths. Beside it stands either one column for each label, with 0
or 1 or a number, or one column with the labels of a file, separated by ``|`` or written as a list of Python's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.foreign_layouts import SPLIT_NAMES
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split, keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets, read_targets
from fedlp_edge.learning.data.tables.formats.csv_format import find_format
from fedlp_edge.learning.data.tables.formats.csv_rows import rows_of
from fedlp_edge.system.printable import counted

LABELS = "labels.csv"
"""Name of the file that lists the labels of the files in a folder."""

_GAPS = frozenset(("", "-", "?", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"))
_SEPARATORS = re.compile(r"\s*[|;,]\s*")
_LIST = re.compile(r"\[(.*)\]")
_FROM_A_ROOT = re.compile(r"/|[a-z]:/|[a-z0-9]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Lists the files of one split that have labels.

    Attributes:
        base: The folder.
        files: Paths of the N files, sorted.
        names: Paths below the folder, in one spelling on every system.
        targets: Targets of the N files.
        remarks: One line on what is left out; empty if nothing is.
        groups: Names of their groups, where a column of the list has them; empty otherwise.
    """

    base: Path
    files: list[Path]
    names: tuple[str, ...]
    targets: Targets
    remarks: str
    groups: tuple[str, ...] = ()


def find_labels(root: Path) -> Path | None:
    """Returns the path of a folder's ``labels.csv``, in whatever letter case; None if it has none, or is no folder."""
    path = root / LABELS
    if path.is_file() or not root.is_dir():
        return path if path.is_file() else None
    try:
        return next((path for path in sorted(root.iterdir()) if path.name.lower() == LABELS and path.is_file()), None)
    except OSError:  # said where the folder is read
        return None


def list_labelled(
    listing: Path,
    found: Iterable[Path],
    split: Split,
    held_out: float | None,
    kind: TargetKind | None,
    group: str = "",
) -> LabelledFiles:
    """Lists the files of one split that a ``labels.csv`` names.

    Args:
        listing: The ``labels.csv`` of a folder.
        found: Files of the wanted type in the folder.
        split: Split to list.
        held_out: Share of the files, by a hash of their paths, that the test split has if they do not all lie in
            folders of two splits; None for all in either split.
        kind: Kind of the targets; None to take them as they look.
        group: Name of the column that tells whose each file is, if there is such a column.

    Raises:
        DataError: The list cannot be read, a file stands in it twice, or the labels are not of this kind.
    """
    base = listing.parent
    known = {unicodedata.normalize("NFC", path.relative_to(base).as_posix()): path for path in found}
    listed = _read(listing, known, group)
    names = tuple(sorted(known.keys() & listed.labels.keys()))
    if not names:
        first = next(iter(listed.labels), "nothing")
        raise DataError(f"{listing} names no file that is there; it names {first!r}, from {base} on")
    targets = _targets(listing, [listed.labels[name] for name in names], listed.columns, kind)
    lists = []
    if listed.gaps:
        lists.append(f"{counted(listed.gaps, 'line')} of {LABELS} without a label")
    if missing := len(listed.labels) - len(names):
        lists.append(f"{counted(missing, 'line')} of {LABELS} whose file is missing or of another kind")
    if unnamed := len(known) - len(names):
        lists.append(f"{counted(unnamed, 'file')} that {LABELS} does not name")
    keep = np.arange(len(names))
    folders = [_split_of(name) for name in names]
    if None not in folders and len(set(folders)) == len(SPLIT_NAMES):
        keep = np.flatnonzero([folder == split for folder in folders])
    elif held_out is not None:
        keep = np.flatnonzero(is_in_test_split(keys_of_names(names), held_out) == (split == "test"))
    return LabelledFiles(
        base=base,
        files=[known[names[index]] for index in keep.tolist()],
        names=tuple(names[index] for index in keep.tolist()),
        targets=Targets(targets.y[keep], targets.names, targets.kind),
        remarks=f"left out: {', '.join(lists)}" if lists else "",
        groups=tuple(listed.groups[names[index]] for index in keep.tolist()) if listed.groups else (),
    )


def _split_of(name: str) -> Split | None:
    """Returns the split whose folder a path begins with; None if it begins with no such folder."""
    folder = name.partition("/")[0].lower() if "/" in name else ""
    return next((split for split, names in SPLIT_NAMES.items() if folder in names), None)


@dataclass(slots=True)
class _Listed:
    """What a list says.

    Attributes:
        columns: Names of the columns of labels.
        labels: Labels by the path of the file below the folder.
        groups: Names of groups likewise, where a column has them; empty for a gap.
        gaps: Number of lines without a label.
    """

    columns: tuple[str, ...]
    labels: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    gaps: int = 0


def _read(listing: Path, known: Collection[str], group: str) -> _Listed:
    """Reads a list.

    Args:
        listing: The list.
        known: Paths of the files below its folder.
        group: Name of the column of groups, if there is such a column.
    """
    form = find_format(listing)
    start = 0 if form.columns[0] else 1  # pandas writes its index into a column without a name
    if form.columns[0].replace("\\", "/").removeprefix("./") in known:
        raise DataError(
            f"{listing}:1: the first line is that of a file: put a line of names above it, such as file,label"
        )
    rows = [(line, [text.strip() for text in row][start:]) for line, row in rows_of(listing, form)]
    rows = [(line, fields) for line, fields in rows if any(fields)]
    columns = form.columns[start:]
    column, paths = _column_of_paths([fields for _, fields in rows], len(columns), known, listing.parent.name)
    named = tuple(name for name in (*columns[:column], *columns[column + 1 :]) if name)
    listed = _Listed(tuple(name for name in named if name != group))
    if not listed.columns:
        raise DataError(f"{listing}:1: a column of paths and at least one of labels must be named")
    for name, (line, fields) in zip(paths, rows, strict=True):
        place = f"{listing}:{line}"
        if name in listed.labels and name in known:
            raise DataError(f"{place}: {name!r} stands in it twice: remove one")
        if len(fields) <= len(named):
            raise DataError(f"{place}: {len(fields)} fields, but the header names {len(named) + 1} columns")
        values = dict(zip(named, (*fields[:column], *fields[column + 1 :]), strict=False))
        if group in values:
            owner = values.pop(group)
            listed.groups[name] = "" if owner in _GAPS else owner
        if len(values) > 1 and not _GAPS.isdisjoint(values.values()):
            listed.gaps += 1
            continue
        if len(values) > 1:
            _check_numbers(values, place)
        listed.labels[name] = [value.replace(",", ".") if form.decimal == "," else value for value in values.values()]
    return listed


def _check_numbers(values: Mapping[str, str], place: str) -> None:
    """Checks the values of several columns.

    Raises:
        DataError: One is not a number.
    """
    for column, value in values.items():
        if not _is_number(value):
            raise DataError(
                f"{place}: column {column!r} holds {value!r}, not a number: several columns are numbers, or 0 and 1 "
                "for each label; leave out all others"
            )


def _column_of_paths(
    rows: Sequence[Sequence[str]], columns: int, known: Collection[str], folder: str
) -> tuple[int, list[str]]:
    """Returns the first column that names files, and what it names in each row; the first one of all if none does."""
    found: list[list[str]] = []
    for column in range(columns):
        fields = (row[column].replace("\\", "/") if len(row) > column else "" for row in rows)
        written = [unicodedata.normalize("NFC", text).removeprefix("./") for text in fields]
        found.append(_paths(written, known, folder))
        if any(name in known for name in found[-1]):
            return column, found[-1]
    return 0, found[0]


def _paths(written: Sequence[str], known: Collection[str], folder: str) -> list[str]:
    """Returns the path below the folder that each name in the list stands for; the name itself where it is of no file.

    Args:
        written: Names in the list.
        known: Paths of the files below the folder.
        folder: Name of the folder.
    """
    called = _short_names(known)

    def path(name: str) -> str:
        return name if name in known else called.get(name) or called.get(name.casefold()) or ""

    if not any(map(path, written)):
        for count in range(1, _common_folders(written) + 1):
            shorter = [name.split("/", count) for name in written]
            # A relative path may be that of another folder, which has files of equal names.
            if (_FROM_A_ROOT.match(written[0]) or shorter[0][count - 1] == folder) and any(
                path(parts[count]) for parts in shorter
            ):
                return [path(parts[count]) or name for parts, name in zip(shorter, written, strict=True)]
    return [path(name) or name for name in written]


def _common_folders(paths: Sequence[str]) -> int:
    """Returns the number of folders with which all paths begin."""
    folders = [path.split("/")[:-1] for path in paths]
    return next(
        (count for count, some in enumerate(zip(*folders, strict=False)) if len(set(some)) > 1),
        min(map(len, folders), default=0),
    )


def _short_names(known: Collection[str]) -> dict[str, str]:
    """Returns the paths of files by what only one of them is called.

    Names are without folders or without suffix, or both, as they are and in small letters.
    """
    paths: dict[str, set[str]] = {}
    for path in known:
        name = path.rpartition("/")[2]
        names = {name, path.rpartition(".")[0], name.rpartition(".")[0]}
        for called in names | {path.casefold()} | {name.casefold() for name in names}:
            paths.setdefault(called, set()).add(path)
    return {called: next(iter(found)) for called, found in paths.items() if len(found) == 1}


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
        one_of_each = bool(np.isin(table, (0, 1)).all() and (table.sum(axis=1) == 1).all())
        return read_targets(table, len(rows), columns if made != "class" or one_of_each else (), str(listing), made)
    texts = [row[0] for row in rows]
    several = [_labels_in(text) for text in texts]
    if kind == "labels" or (kind is None and any(len(names) > 1 for names in several)):
        names = tuple(sorted({name for some in several for name in some}))
        table = np.asarray([[name in some for name in names] for some in several], np.float32)
        return Targets(table.reshape(len(rows), len(names)), names, "labels")
    if kind == "values":
        return read_targets(_floats(listing, texts), len(rows), columns, str(listing), kind)
    alone = [
        names[0] if _LIST.fullmatch(text) and len(names) == 1 else text
        for text, names in zip(texts, several, strict=True)
    ]
    return read_targets(np.asarray(alone), len(rows), (), str(listing), kind)


def _labels_in(text: str) -> list[str]:
    """Returns the labels in a field: separated, or as a list of Python's, as pandas writes one."""
    if inner := _LIST.fullmatch(text):
        return [name for part in _SEPARATORS.split(inner[1]) if (name := part.strip("'\" "))]
    return [name for name in _SEPARATORS.split(text) if name]


def _floats(listing: Path, texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    bad = next((text for text in texts if not _is_number(text)), None)
    if bad is not None:
        raise DataError(f"{listing}: {bad!r} is not a number")
    return np.asarray([float(text.replace(",", ".")) for text in texts])
