"""This module makes samples of a stored data set: pictures, sounds or arrays, with the targets of one column."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.arrays import LABEL_KEYS, AnyArray, stored
from fedlp_edge.learning.data.hugging_face.column_types import Column, ColumnKind, columns_of
from fedlp_edge.learning.data.hugging_face.dataset_files import DatasetFiles, batches_of, find_files, read_schema
from fedlp_edge.learning.data.hugging_face.encoded_files import EncodedFiles, EncodedSpool
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_folders import PictureList, SkippedFiles
from fedlp_edge.learning.data.pictures.picture_samples import picture_samples
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.groups import numbered_groups
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split, keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets, without_targets
from fedlp_edge.learning.data.sounds.sound_samples import SoundList, sound_samples
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.learning.data.spec.source_checks import require_scipy
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.system.printable import counted

if TYPE_CHECKING:
    import pyarrow

_ROWS = 256  # read together
_NAMED = 3  # columns in a message
_HEAD_BYTES = 12
_SOUNDS = (b"fLaC", b"OggS", b"ID3")  # the first bytes of compressed sounds
_ADVICE: dict[ColumnKind, str] = {
    "text": "holds text, which a model does not take as it is: return numbers from a function, module:callable",
    "number": "holds single numbers: save the table with to_parquet, for parquet:FILE#target=COLUMN",
    "other": "holds what is neither pictures nor arrays of numbers: return numbers from a function, module:callable",
    "class": "holds class numbers, which are learned: name the column of the samples",
    "classes": "holds class numbers, which are learned: name the column of the samples",
}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Says which columns are used.

    Attributes:
        sample: Column of the samples.
        target: Column of the targets; None if there is none.
        group: Name of the column of the groups; empty for none.
        unused: Names of the other columns.
    """

    sample: Column
    target: Column | None
    group: str
    unused: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        target = () if self.target is None else (self.target.name,)
        return tuple(dict.fromkeys((self.sample.name, *target, *filter(None, (self.group,)))))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Holds the rows of one split that are used.

    Attributes:
        samples: Encoded pictures or sounds of the N rows, or their arrays [N, ...].
        target: Target of each row as it is stored.
        groups: Name of the group of each row; empty if there are no groups.
        keys: Hash of each sample in hexadecimal digits.
        remarks: One line on what is left out; empty if nothing is.
    """

    samples: EncodedFiles | AnyArray
    target: list[Any]
    groups: list[str]
    keys: tuple[str, ...]
    remarks: str


def list_stored(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    """Lists the samples of one split of a stored data set.

    Args:
        spec: Data specification of a ``huggingface`` source.
        split: Split to list.
        kind: Kind of the targets; None if it is not known yet.

    Raises:
        DataError: A file is missing or unusable, or no column can be taken for the samples or the targets.
    """
    files = find_files(spec.path, split)
    source = f"huggingface:{spec.argument}"
    columns = columns_of(read_schema(files.paths[0]))
    chosen = _choose(columns, spec, source, kind)
    rows = _read(spec, files, chosen)
    targets = _targets(rows.target, chosen.target, source, kind, files)
    groups, group_names = numbered_groups(rows.groups) if chosen.group else (None, ())
    kept = np.arange(len(rows.keys))
    if not files.other and spec.held_out is not None:
        kept = np.flatnonzero(is_in_test_split(keys_of_names(rows.keys), spec.held_out) == (split == "test"))
    labels = coarse_classes(targets)
    if isinstance(rows.samples, EncodedFiles) and _are_sounds(chosen.sample, rows.samples):
        sounds = SoundList(rows.samples, rows.keys, rows.samples.names, targets, rows.remarks, rows.samples.nbytes)

        def samples(keep: Indices | None) -> Samples:
            made = sound_samples(sounds, spec, kept if keep is None else kept[keep])
            return replace(made, index=np.searchsorted(kept, made.index))
    elif isinstance(rows.samples, EncodedFiles):
        files_bytes = rows.samples.nbytes
        listed = PictureList(spec.path, targets.names, rows.samples, labels, SkippedFiles(), rows.keys, files_bytes)

        def samples(keep: Indices | None) -> Samples:
            made = picture_samples(listed, targets, spec, kept if keep is None else kept[keep], rows.remarks)
            return replace(made, index=np.searchsorted(kept, made.index))
    else:
        arrays, what = rows.samples, f"{source}: {chosen.sample.name}"

        def samples(keep: Indices | None) -> Samples:
            index = np.arange(len(kept)) if keep is None else keep
            x, y = arrays[kept[index]], targets.y[kept[index]]
            names = keys_of_names(rows.keys[number] for number in kept[index].tolist())
            made = Samples(x, y, targets.names, index=index, remarks=rows.remarks, targets=targets.kind, names=names)
            return made if x.dtype == np.uint8 else replace(made, x=stored(x, what), scale=1.0, mean=(0.0,), std=(1.0,))

    return SampleListing(labels[kept], targets.names, samples, None if groups is None else groups[kept], group_names)


def _are_sounds(column: Column, files: EncodedFiles) -> bool:
    """Tells sounds from pictures, where no feature does by the first bytes of the first one.

    Raises:
        DataError: They are sounds, and SciPy is not installed.
    """
    head = files.read(0)[:_HEAD_BYTES]
    wave = head.startswith(b"RIFF") and head.endswith(b"WAVE")
    if column.kind != "sound" and not wave and not head.startswith(_SOUNDS):
        return False
    require_scipy()
    return True


def _choose(columns: Mapping[str, Column], spec: DataSpec, source: str, kind: TargetKind | None) -> _Chosen:
    options = spec.table
    for name in (*options.target, *options.features, *filter(None, (options.group,))):
        if name not in columns:
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(columns)}")
    if len(options.target) > 1 or len(options.features) > 1:
        raise DataError(f"{source}: name one column with target= and one with features=")
    target = _target_column(columns, options.target, source, kind)
    others = {name: column for name, column in columns.items() if column is not target and name != options.group}
    sample = _sample_column(others, options.features, source)
    unused = tuple(name for name in others if name != sample.name)
    return _Chosen(sample, target, options.group, unused)


def _target_column(
    columns: Mapping[str, Column], named: tuple[str, ...], source: str, kind: TargetKind | None
) -> Column | None:
    if named:
        return columns[named[0]]
    classes = [name for name, column in columns.items() if column.kind in ("class", "classes")]
    usual = [name for name in columns if name.lower() in LABEL_KEYS]
    found = classes if len(classes) == 1 else [name for name in usual if name in classes or not classes][:1]
    if found:
        return columns[found[0]]
    if classes:
        raise DataError(f"{source}: {' and '.join(classes)} are all classes: name one with target=")
    if kind == "none":
        return None
    raise DataError(f"{source}: name the column that is learned with target=; there are {', '.join(columns)}")


def _sample_column(columns: Mapping[str, Column], named: tuple[str, ...], source: str) -> Column:
    usable: tuple[ColumnKind, ...] = ("picture", "sound", "array")
    if named:
        column = columns.get(named[0])
        if column is None:
            raise DataError(f"{source}: features={named[0]} is the column that is learned, or that of the groups")
        if column.kind in usable:
            return column
        raise DataError(f"{source}: column {column.name!r} {_ADVICE[column.kind]}")
    for wanted in usable:
        found = [column for column in columns.values() if column.kind == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(column.name for column in found[:_NAMED])
            raise DataError(f"{source}: several columns hold samples ({names}): name one with features=")
    if not columns:
        raise DataError(f"{source} has no column of samples beside that of the targets")
    kinds: tuple[ColumnKind, ...] = ("text", "number", "other", "class", "classes")
    first = min(columns.values(), key=lambda column: kinds.index(column.kind))
    raise DataError(f"{source}: column {first.name!r} {_ADVICE[first.kind]}")


def _read(spec: DataSpec, files: DatasetFiles, chosen: _Chosen) -> _Rows:
    # The other half is for what is decoded.
    spool = EncodedSpool(spec.memory_bound // 2, cache_directory("encoded-files"))
    arrays: list[AnyArray] = []
    places: list[str] = []
    target: list[Any] = []
    groups: list[str] = []
    keys: list[str] = []
    empty = unlabelled = 0
    encoded = chosen.sample.kind in ("picture", "sound")
    for path in files.paths:
        _check_columns(path, files.paths[0], chosen)
        first = 0
        for batch in batches_of(path, chosen.names, _ROWS):
            labels = _labels(batch, chosen.target)
            owners = _texts(batch.column(chosen.group)) if chosen.group else [""] * len(batch)
            filled = np.asarray(batch.column(chosen.sample.name).is_valid())
            labelled = np.asarray([label is not None for label in labels], np.bool_)
            wanted = np.asarray([owner in spec.table.only for owner in owners], np.bool_)
            wanted = wanted if spec.table.only else np.ones(len(batch), np.bool_)
            empty += int((wanted & ~filled).sum())
            unlabelled += int((wanted & filled & ~labelled).sum())
            good = np.flatnonzero(wanted & filled & labelled)
            used = batch.column(chosen.sample.name).take(good)
            if encoded:
                for row, content in zip(good.tolist(), _encoded(used, path, spec.path), strict=True):
                    spool.add(content)
                    keys.append(hashlib.blake2b(content, digest_size=8).hexdigest())
                    places.append(f"row {first + row + 1} of {path.name}")
            elif len(good):
                arrays.append(_array(used, f"{path}: column {chosen.sample.name!r}"))
                rows = np.ascontiguousarray(arrays[-1]).reshape(len(good), -1)
                keys += [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows]
            target += [labels[row] for row in good.tolist()]
            groups += [owners[row] for row in good.tolist()]
            first += len(batch)
    if not keys:
        raise DataError(_no_rows(spec, empty, unlabelled))
    return _Rows(
        samples=spool.finish(places) if encoded else _joined(arrays, f"{spec.path}: column {chosen.sample.name!r}"),
        target=target,
        groups=groups if chosen.group else [],
        keys=tuple(keys),
        remarks=_remarks(files, chosen, empty, unlabelled),
    )


def _check_columns(path: Path, first: Path, chosen: _Chosen) -> None:
    missing = next((name for name in chosen.names if name not in read_schema(path).names), "")
    if missing:
        raise DataError(f"{path} has no column {missing!r}, which {first} has")


def _labels(batch: pyarrow.RecordBatch, target: Column | None) -> list[Any]:
    """Returns the targets of a batch; None where there is none, which ``datasets`` also writes as the class -1."""
    if target is None:
        return [0] * len(batch)
    values = batch.column(target.name).to_pylist()
    if target.kind == "class":
        return [None if value is None or value < 0 else value for value in values]
    return [None if value in (None, "") or _is_nan(value) else value for value in values]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _texts(column: pyarrow.Array) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _encoded(column: pyarrow.Array, path: Path, root: Path) -> Iterable[bytes]:
    """Yields the encoded files of a column: what it holds, or the contents of the files that it names."""
    for field in column:
        value = field.as_py()
        if not isinstance(value, Mapping):
            yield value
        elif (content := value["bytes"]) is not None:
            yield content
        else:
            yield _beside(value.get("path"), path, root)


def _beside(name: str | None, path: Path, root: Path) -> bytes:
    folders = (path.parent, root, Path())  # to_parquet keeps paths that start where the data set was made
    found = next((file for folder in folders if name and (file := folder / name).is_file()), None)
    if found is None:
        raise DataError(
            f"{path} names the file {name!r} and does not hold it, and there is no such file: store the data set with "
            "its files, by save_to_disk or push_to_hub"
        )
    try:
        return found.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {found}: {error.strerror}") from None


def _array(column: pyarrow.Array, what: str) -> AnyArray:
    """Converts nested lists of numbers of one shape to an array, [n, ...]."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    shape: tuple[int, ...] = ()
    if isinstance(column.type, pa.BaseExtensionType):
        shape = tuple(getattr(column.type, "shape", ()) or ())
        column = column.storage
    count, sizes = len(column), []
    while pa.types.is_nested(column.type):
        lengths = column.value_lengths().unique().to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise DataError(f"{what} holds arrays of different shapes: bring them to one")
        sizes.append(lengths[0] if lengths else 0)
        column = column.flatten()
    if column.null_count:
        raise DataError(f"{what} holds arrays with gaps: fill them in, or remove these rows")
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(values.reshape((count, *(shape or sizes))))


def _joined(parts: list[AnyArray], what: str) -> AnyArray:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        one, other = sorted(map(list, shapes))[:2]
        raise DataError(f"{what} holds arrays of different shapes, {one} and {other}: bring them to one")
    return np.concatenate(parts)


def _targets(
    raw: list[Any], column: Column | None, source: str, kind: TargetKind | None, files: DatasetFiles
) -> Targets:
    if column is None:
        return without_targets(len(raw), kind, source)
    if column.kind == "classes" or (raw and isinstance(raw[0], list)):
        labels = _indicators(raw, column.classes, source)
        return read_targets(labels, len(raw), column.classes, source, kind or "labels")

    def others() -> Iterable[npt.NDArray[Any]]:
        found = (_labels(batch, column) for path in files.other for batch in batches_of(path, [column.name], _ROWS))
        for labels in found:
            yield np.asarray([label for label in labels if label is not None])

    return read_targets(np.asarray(raw), len(raw), column.classes, source, kind, others)


def _indicators(raw: Collection[list[int]], classes: tuple[str, ...], source: str) -> npt.NDArray[np.float32]:
    """Converts lists of class numbers to labels of 0 and 1, [N, K]."""
    highest = max((max(numbers, default=-1) for numbers in raw), default=-1)
    count = max(len(classes), highest + 1)
    if count > len(classes) > 0:
        raise DataError(f"{source}: labels go up to {highest}, but there are only {len(classes)} names, from 0")
    made = np.zeros((len(raw), count), np.float32)
    for row, numbers in enumerate(raw):
        made[row, numbers] = 1
    return made


def _no_rows(spec: DataSpec, empty: int, unlabelled: int) -> str:
    source = f"huggingface:{spec.argument}"
    if unlabelled:
        return f"{source}: none of its {unlabelled:,} rows has a label: this may be the test split of a competition"
    if spec.table.only and not empty:
        return f"{source} has no rows of {spec.table.group} {', '.join(spec.table.only[:_NAMED])}"
    return f"{source} has no rows"


def _remarks(files: DatasetFiles, chosen: _Chosen, empty: int, unlabelled: int) -> str:
    left = []
    if empty:
        left.append(f"{counted(empty, 'row')} without a sample")
    if unlabelled:
        left.append(f"{counted(unlabelled, 'row')} without a label")
    if chosen.unused:
        more = "" if len(chosen.unused) <= _NAMED else f" and {len(chosen.unused) - _NAMED} more"
        left.append(f"the columns {', '.join(chosen.unused[:_NAMED])}{more}")
    if files.unused:
        left.append(f"files of neither split ({', '.join(path.name for path in files.unused[:_NAMED])})")
    return f"left out: {', '.join(left)}" if left else ""
