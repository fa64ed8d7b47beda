"""This module finds the samples and targets of ``npy:FILE`` and ``npy:DIR``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.arrays import AnyArray, check_samples
from fedlp_edge.learning.data.class_listing import find_class_listing, read_class_listing
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.row_files import open_array
from fedlp_edge.learning.data.readers.selected import ArrayReader
from fedlp_edge.learning.data.readers.target_values import Targets, read_targets, without_targets
from fedlp_edge.learning.data.spec.foreign_kinds import ARRAY_EACH

_NO_ROWS = np.empty(0, np.int64)


def open_arrays(path: Path, split: Split, kind: TargetKind | None) -> tuple[ArrayReader, Targets, bool]:
    """Opens the samples of one split, and reads their targets.

    Args:
        path: Directory with ``x.npy`` and ``y.npy`` (or ``x_train.npy``, ``x_test.npy`` and so on), or the file of the
            samples, beside which lies the file of the targets, with y for x in its name.
        split: Split to open.
        kind: Kind of the targets; None if it is not known yet.

    Returns:
        Reader of the samples, targets, and whether there is a test split of its own.

    Raises:
        DataError: A file is missing or unusable, or samples and targets do not go together.
    """
    x_path, own_split = (
        (_of_split(path, "x", split), (path / "x_test.npy").is_file()) if path.is_dir() else (path, False)
    )
    if x_path is None:
        hint = f"; {ARRAY_EACH}" if next(path.glob("*/*.npy"), None) is not None else ""
        raise DataError(f"{path} has no x.npy for its {split} split, or x_{split}.npy: save it with numpy.save{hint}")
    rows = open_array(x_path)
    check_samples(np.broadcast_to(np.empty((), rows.dtype), rows.shape), f"{x_path}")  # of its shape, without its bytes
    reader, count = ArrayReader(rows, str(x_path)), rows.shape[0]
    y_path = _beside(x_path)
    if y_path is None:
        return reader, without_targets(count, kind, f"{x_path} has no y.npy beside it and"), own_split
    y = _read(y_path)
    if len(y) != count:
        raise DataError(f"{x_path} and {y_path} must go together, but they hold {count} and {len(y)} samples")
    listing = find_class_listing(x_path.parent)
    names = read_class_listing(listing) if listing is not None and kind in (None, "class") else ()
    other = _of_split(path, "y", "train" if split == "test" else "test") if own_split else None
    return (
        reader,
        read_targets(y, count, names, str(y_path), kind, lambda: [] if other is None else [_read(other)]),
        own_split,
    )


def _of_split(folder: Path, what: str, split: Split) -> Path | None:
    own = folder / f"{what}_{split}.npy"
    both = folder / f"{what}.npy"
    if own.is_file():
        return own
    test_apart = split == "test" and (folder / f"{what}_test.npy").is_file()
    return both if both.is_file() and not test_apart else None


def _beside(x_path: Path) -> Path | None:
    names = [x_path.name.replace("x", "y", 1), x_path.name.replace("X", "y", 1), "y.npy"]
    found = (x_path.with_name(name) for name in names if name != x_path.name)
    return next((path for path in found if path.is_file()), None)


def _read(path: Path) -> AnyArray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise DataError(f"{path} is no array of numbers or text: save it with numpy.save") from None
