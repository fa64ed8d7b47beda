"""This module reads samples from the user's own ``.npz`` file or function."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import class_listing
from fedlp_edge.learning.data.arrays import LABEL_KEYS, SAMPLE_KEYS, AnyArray, as_array, check_samples, pairs_of
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.map_dataset import open_map_dataset
from fedlp_edge.learning.data.readers.target_values import Targets, read_targets
from fedlp_edge.learning.foreign_code import error_line, load_object, run_foreign_code
from fedlp_edge.system.memory import system_memory

UserSamples = tuple[AnyArray, Targets]
"""Samples [N, ...] as the user gave them, and their targets."""

_HDF5 = b"\x89HDF"

_OTHER: dict[Split, Split] = {"train": "test", "test": "train"}


def read_npz(path: Path, split: Split, kind: TargetKind | None) -> tuple[UserSamples, bool]:
    """Reads the samples and targets of one split from an ``.npz`` file.

    Args:
        path: The file.
        split: Split to read.
        kind: Kind of the targets; None if it is not known yet.

    Returns:
        Samples and targets; and whether the file has a test split of its own.

    Raises:
        DataError: The file cannot be read, or its arrays are not samples and labels.
    """
    try:
        if _starts_with(path, _HDF5):
            raise DataError(f"{path} is an HDF5 file: save its arrays as x and y with numpy.savez")
        loaded = np.load(path, allow_pickle=False)
        if not hasattr(loaded, "files"):
            raise DataError(f"{path} is a single array: write npy:FILE for it, or save x and y with numpy.savez")
        with loaded as archive:
            return _from_archive(archive, path, split, kind)
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"cannot read {path}: its arrays take more memory than there is") from None
    except Exception as error:  # damaged archives fail in zipfile, zlib, struct, ast and numpy, each in its own way
        # NumPy takes whatever it does not know for a pickle, and advises to run the code in it.
        if "pickled (object) data" in str(error):
            reason = "it is no .npz file, and no pickle is read; save x and y with numpy.savez"
            raise DataError(f"cannot read {path}: {reason}") from None
        hint = " (object arrays are refused; save plain numbers)" if "pickle" in str(error) else ""
        raise DataError(f"cannot read {path}: {error_line(error)}{hint}") from None


def call_function(
    name: str, split: Split, kind: TargetKind | None, bound: int
) -> tuple[AnyArray | SampleReader, Targets]:
    """Imports the user's own function and calls it for the samples of a split.

    Args:
        name: Function as ``module:callable``, which the user named on their own command line.
        split: Split that the function is called for.
        kind: Kind of the targets; None if it is not known yet.
        bound: Most bytes that samples of a data set of map style take in memory.

    Returns:
        Samples, or what reads them when they are needed; and targets.

    Raises:
        DataError: The function cannot be imported or called, fails, or does not return samples and labels.
    """
    source = f"data {name}"
    function = load_object(name)
    x, y, names = _called(function, source, split, bound)
    if len(x) != len(y) and not (y.ndim == 2 and 1 in y.shape):
        raise DataError(f"{source} gave {len(x)} samples and {len(y)} labels for {split!r}: one label a sample")

    def others() -> Iterable[AnyArray]:
        """Returns the labels of the other split, if the function gives it."""
        try:
            return [_called(function, source, _OTHER[split], bound)[1]]
        except DataError:  # the function may know only one split
            return []

    return x, read_targets(y, len(x), names, source, kind, others)


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _from_archive(archive: Any, path: Path, split: Split, kind: TargetKind | None) -> tuple[UserSamples, bool]:
    files = {name.lower(): name for name in archive.files}
    x_train, y_train = (_named(files, keys, ("", "train")) for keys in (SAMPLE_KEYS, LABEL_KEYS))
    x_test, y_test = (_named(files, keys, ("test",)) for keys in (SAMPLE_KEYS, LABEL_KEYS))
    if (x_test is None) != (y_test is None):
        have, lacks = ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
        raise DataError(f"{path} has {have} but no {lacks}: save both or neither")
    own_split = x_test is not None
    x_name, y_name = (x_test, y_test) if own_split and split == "test" else (x_train, y_train)
    if x_name is None or y_name is None:
        held = ", ".join(archive.files) or "none"
        raise DataError(f"{path} has no arrays x and y for the {split} split; its arrays are {held}")
    _check_fits_memory(archive, path, x_name)
    x, y = archive[x_name], archive[y_name]
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        raise DataError(f"cannot read {path}: {x_name} and {y_name} must be arrays, saved with numpy.savez")
    check_samples(x, f"{path}: x")
    if len(x) != len(y) and not (y.ndim == 2 and 1 in y.shape):
        raise DataError(f"{path}: x and y must go together, but they are {list(x.shape)} and {list(y.shape)}")
    if own_split:
        _check_same_shape(archive, path, str(x_train), str(x_test))
    names = _names(archive[files["classes"]], f"{path}: classes") if "classes" in files else ()
    other = y_train if split == "test" else y_test
    found = read_targets(
        y, len(x), names, str(path), kind, lambda: [archive[other]] if own_split and other is not None else []
    )
    return (x, found), own_split


def _named(files: Mapping[str, str], keys: Collection[str], splits: Collection[str]) -> str | None:
    """Returns the array of the first usual name that is there, such as ``x_train`` or ``train_images``."""
    for key in keys:
        for split in splits:
            for name in (f"{key}_{split}", f"{split}_{key}") if split else (key,):
                if name in files:
                    return files[name]
    return None


def _check_fits_memory(archive: Any, path: Path, name: str) -> None:
    """Checks that an array fits into memory, because a file of a few kilobytes may unpack to many gigabytes."""
    size, free = archive.zip.getinfo(f"{name}.npy").file_size, system_memory()[1]
    if size > free:
        raise DataError(f"{path}: {name} takes {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB of memory are free")


def _check_same_shape(archive: Any, path: Path, first: str, second: str) -> None:
    shapes = [_shape(archive, name)[1:] for name in (first, second)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: samples of {first} are {list(shapes[0])}, but those of {second} {list(shapes[1])}")


def _shape(archive: Any, name: str) -> tuple[int, ...]:
    """Reads the shape of an array in the archive without its values."""
    with archive.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read(file)[0]
    return shape


def _called(
    function: Any, source: str, split: Split, bound: int
) -> tuple[AnyArray | SampleReader, AnyArray, tuple[str, ...]]:
    if not callable(function):
        raise DataError(
            f"{source} is of type {type(function).__name__}, not a function of the split ('train' or 'test')"
        )
    _check_takes_split(function, source)
    try:
        with run_foreign_code(source):
            returned = function(split)
    except DataError as error:
        if not inspect.isclass(function):
            raise
        # People name the class of a library that takes a folder, a transformation and more.
        raise DataError(f"{error}; it was given {split!r} alone: name a function that makes it as you do") from error
    with run_foreign_code(source):
        made = _of_split(returned, split)
        if hasattr(made, "columns") and hasattr(made, "to_numpy"):
            raise DataError(f"{source} gave a {type(made).__name__}: return (x, y), its features and its labels")
        if (opened := open_map_dataset(made, source, bound)) is not None:
            names = _class_names(made)
            return *opened, () if names is None else _names(names, f"{source}: class names")
        x, y, names = _unpacked(made, source, split)
        samples, labels = as_array(x, f"{source}: x"), as_array(y, f"{source}: y")
        given = () if names is None else _names(names, f"{source}: class names")
    check_samples(samples, f"{source}: x")
    return samples, labels, given


def _check_takes_split(function: Any, source: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled code may have no signature
        return
    try:
        signature.bind("train")
    except TypeError as error:
        raise DataError(
            f"{source} must take one argument, 'train' or 'test' ({error_line(error)}): name a function that does, and "
            "calls it"
        ) from None


def _unpacked(made: Any, source: str, split: Split) -> tuple[Any, Any, Any]:
    if isinstance(made, Mapping):
        keys = {str(key): str(key) for key in made}
        x_key, y_key = (_named(keys, usual, ("",)) for usual in (SAMPLE_KEYS, LABEL_KEYS))
        if x_key is not None and y_key is not None:
            return made[x_key], made[y_key], made.get("classes")
    if isinstance(made, tuple | list) and len(made) in (2, 3) and not _is_pair(made[0]):
        return made[0], made[1], made[2] if len(made) == 3 else None
    if made is None or isinstance(made, Mapping | tuple | str | bytes | np.ndarray | int | float):
        what = "nothing (None)" if made is None else f"a {type(made).__name__}"
        raise DataError(f"{source} must return (x, y) or (x, y, class names) for {split!r}, not {what}")
    x, y = pairs_of(made, f"{source}: what it returned for {split!r}")
    return x, y, _class_names(made)


def _of_split(made: Any, split: Split) -> Any:
    """Returns one split of an object with both, as Hugging Face's and Keras' loaders give."""
    if isinstance(made, Mapping) and split in made:
        return made[split]
    both = (
        isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, tuple) and len(part) == 2 for part in made)
    )
    if both and all(np.ndim(labels) for _, labels in made):
        return made[0 if split == "train" else 1]
    return made


def _class_names(made: Any) -> Any:
    """Returns the names of the classes that a data set of torchvision or Hugging Face, or a subset of one, knows."""
    if (names := getattr(made, "classes", None)) is not None:
        return names
    features = getattr(made, "features", None)
    if isinstance(features, Mapping):
        return next(
            (value.names for key, value in features.items() if key in LABEL_KEYS and hasattr(value, "names")), None
        )
    return _class_names(made.dataset) if hasattr(made, "dataset") else None


def _is_pair(value: Any) -> bool:
    """Tells whether a value is a (sample, label) pair, to recognise a list of two or three such pairs."""
    return isinstance(value, tuple) and len(value) == 2 and np.ndim(value[1]) == 0 and np.ndim(value[0]) > 0


def _names(given: Any, source: str) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        by_number = {number: name for number, name in given.items() if isinstance(number, int)}
        by_number = by_number or {number: name for name, number in given.items()}
        if sorted(by_number) != list(range(len(by_number))):
            raise DataError(f"{source} must be numbered from 0 without gaps")
        given = [by_number[number] for number in range(len(by_number))]
    if isinstance(given, str | bytes) or np.ndim(given) != 1:
        raise DataError(f"{source} must be a list of names, one a class, not the single value {given}")
    return class_listing.checked_names(list(given), source)
