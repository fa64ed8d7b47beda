"""This module finds the files of one split of a stored data set, and reads them in batches.

The hub stores ``data/train-00000-of-00002.parquet`` or ``train/0000.parquet``, with the name of a configuration above
it if a repository has several; ``save_to_disk`` writes ``train/data-00000-of-00001.arrow``, and without the split if
there is but one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.foreign_layouts import SPLIT_NAMES
from fedlp_edge.learning.foreign_code import error_line

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".arrow")
"""Suffixes of the files, in small letters."""

_OTHER_NAMES: dict[Split, tuple[str, ...]] = {"train": (), "test": ("eval", "evaluation", "dev")}
_LFS_POINTER = b"version https://git-lfs"
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """Names the files of one split.

    Attributes:
        paths: Files of the split, in the order of their names.
        other: Files of the other split; empty if the data set has but one, which then serves as either.
        unused: Files that belong to no split although others do.
    """

    paths: tuple[Path, ...]
    other: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()


def find_files(root: Path, split: Split) -> DatasetFiles:
    """Finds the files of one split.

    Args:
        root: A file, or a folder with files anywhere below it.
        split: Split to find. A test split is the one called so, or else that for validation.

    Raises:
        DataError: There are none, or those of several data sets.
    """
    if root.is_file():
        return DatasetFiles((root,))
    try:
        found = sorted(path for path in root.rglob("*") if _is_part(path.relative_to(root)) and path.is_file())
    except OSError as error:
        raise DataError(f"cannot read {error.filename or root}: {error.strerror}") from None
    if not found:
        raise DataError(
            f"{root} holds no stored data set: it needs files that end in {' or '.join(SUFFIXES)}, as the hub has "
            "them and save_to_disk writes them"
        )
    named: dict[str, list[Path]] = {}
    configurations: dict[str, set[str]] = {}
    for path in found:
        name, configuration = _split_and_configuration(path.relative_to(root))
        named.setdefault(name, []).append(path)
        configurations.setdefault(name, set()).add(configuration)
    several = sorted(next((names for name, names in configurations.items() if name and len(names) > 1), ()))
    if several:
        raise DataError(
            f"{root} holds several data sets ({', '.join(several[:_MAX_NAMED])}): name one, as in "
            f"huggingface:{root / several[0]}"
        )
    unnamed = tuple(named.pop("", ()))
    by_split = {split: next((named[name] for name in _names(split) if name in named), []) for split in SPLIT_NAMES}
    if not named:
        return DatasetFiles(unnamed)
    if not all(by_split.values()):
        only = next(filter(None, by_split.values()))
        return DatasetFiles(tuple(only), unused=unnamed)
    other: Split = "train" if split == "test" else "test"
    return DatasetFiles(tuple(by_split[split]), tuple(by_split[other]), unnamed)


def _names(split: Split) -> tuple[str, ...]:
    return (*SPLIT_NAMES[split], *_OTHER_NAMES[split])


def _is_part(path: Path) -> bool:
    """Tells whether a file is one of the data set, and none that a program keeps for itself beside it."""
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return not hidden and path.suffix.lower() in SUFFIXES and not path.name.startswith(("cache-", "tmp"))


def _split_and_configuration(path: Path) -> tuple[str, str]:
    """Returns the name of the split that a path below the folder tells, and what stands above it; empty if none."""
    parts = [*path.parent.parts, path.stem]
    known = [name for split in SPLIT_NAMES for name in _names(split)]
    for number, part in reversed(list(enumerate(parts))):
        words = re.split(r"[^a-z]+", part.lower())
        if name := next((name for name in known if name in words), ""):
            return name, "/".join(parts[:number])
    return "", ""


def read_schema(path: Path) -> pyarrow.Schema:
    """Returns names and types of the columns of a file.

    Raises:
        DataError: The file cannot be read.
    """
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    try:
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_schema(path)
        with pyarrow.memory_map(str(path)) as mapped:
            return _open_arrow(mapped).schema
    except Exception as error:  # ArrowInvalid, OSError and others
        raise DataError(_unreadable(path, error)) from None


def batches_of(path: Path, columns: Sequence[str], rows: int) -> Iterator[pyarrow.RecordBatch]:
    """Yields some columns of a file in batches.

    Args:
        path: The file.
        columns: Names of the columns.
        rows: Most rows of a batch.

    Raises:
        DataError: The file cannot be read.
    """
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    try:
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                yield from (batch.select(columns) for batch in file.iter_batches(batch_size=rows, columns=[*columns]))
            return
        # Batches of a mapped file take no memory of their own, however many rows they were written with.
        with pyarrow.memory_map(str(path)) as mapped:
            for batch in _open_arrow(mapped):
                chosen = batch.select(columns)
                yield from (chosen.slice(first, rows) for first in range(0, len(chosen), rows))
    except DataError:
        raise
    except Exception as error:
        raise DataError(_unreadable(path, error)) from None


def _open_arrow(mapped: pyarrow.MemoryMappedFile) -> pyarrow.RecordBatchReader:
    """Opens an Arrow file, which ``datasets`` writes as a stream, and others as a file with an index at its end."""
    import pyarrow.ipc  # noqa: PLC0415 - an extra

    try:
        return pyarrow.ipc.open_stream(mapped)
    except pyarrow.ArrowInvalid:
        mapped.seek(0)
        opened = pyarrow.ipc.open_file(mapped)
        batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        return pyarrow.RecordBatchReader.from_batches(opened.schema, batches)


def _unreadable(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return f"{path} is a pointer of Git LFS: fetch the file itself with git lfs pull"
    except OSError as lost:
        return f"cannot read {path}: {lost.strerror}"
    if path.suffix.lower() == ".parquet" and "magic bytes" in str(error):
        return f"{path} is no Parquet file, or it is cut short"
    return f"cannot read {path}: {error_line(error)}"
