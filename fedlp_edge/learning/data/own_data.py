"""This module reads samples from the user's own ``.npz`` file or function."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
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

GROUP_KEYS = ("groups", "group")
"""Names of an array that tells whose each sample is."""


@dataclass(frozen=True, slots=True)
class OwnSamples:
    """Holds what a file or a function of the user's gave for one split.

    Attributes:
        x: Samples [N, ...] as the user gave them, or what reads them when they are needed.
        targets: Their targets.
        groups: Name of the group of each sample, such as a person or a site; empty if they have none.
    """

    x: AnyArray | SampleReader
    targets: Targets
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Returned:
    """Holds what a function returned: samples, labels, and perhaps names of classes and of groups."""

    x: AnyArray | SampleReader
    y: AnyArray
    names: tuple[str, ...]
    groups: tuple[str, ...]


_HDF5 = b"\x89HDF"

_OTHER: dict[Split, Split] = {"train": "test", "test": "train"}


def read_npz(path: Path, split: Split, kind: TargetKind | None) -> tuple[OwnSamples, bool]:
    """Reads the samples and targets of one split from an ``.npz`` file.

    Args:
        path: The file.
        split: Split to read.
        kind: Kind of the targets; None if it is not known yet.

    Returns:
        The samples; and whether the file has a test split of its own.

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
        if "pickled" in str(error):
            reason = "it is no .npz file, and no pickle is read; save x and y with numpy.savez"
            raise DataError(f"cannot read {path}: {reason}") from None
        hint = " (object arrays are refused; save plain numbers)" if "pickle" in str(error) else ""
        raise DataError(f"cannot read {path}: {error_line(error)}{hint}") from None


def call_function(
    name: str, split: Split, kind: TargetKind | None, bound: int, *, divided: bool
) -> tuple[OwnSamples, bool]:
    """Imports the user's own function and calls it for the samples of a split.

    Args:
        name: Function as ``module:callable``, which the user named on their own command line.
        split: Split that the function is called for.
        kind: Kind of the targets; None if it is not known yet.
        bound: Most bytes that samples of a data set of map style take in memory.
        divided: Whether samples are held out of a source without a test split, so that the answer must be certain.

    Returns:
        The samples; and whether the function knows the splits. One without an argument does not, nor does one that
        gives the same samples for both.

    Raises:
        DataError: The function cannot be imported or called, fails, or does not return samples and labels.
    """
    source = f"data {name}"
    function = load_object(name)
    made = _called(function, source, split, bound)
    x, y = made.x, made.y
    if len(x) != len(y) and not (y.ndim == 2 and 1 in y.shape):
        raise DataError(f"{source} gave {len(x)} samples and {len(y)} labels for {split!r}: one label a sample")
    _check_groups(made.groups, len(x), source)
    knows_splits = _arguments(function, source) > 0
    if divided and knows_splits:
        knows_splits = not _gives_same(function, source, split, made, bound)

    def others() -> Iterable[AnyArray]:
        """Returns the labels of the other split, if the function gives it."""
        try:
            return [_called(function, source, _OTHER[split], bound).y]
        except DataError:  # the function may know only one split
            return []

    found = read_targets(y, len(x), made.names, source, kind, others if knows_splits else list)
    return OwnSamples(x, found, made.groups), knows_splits


def _gives_same(function: Any, source: str, split: Split, made: _Returned, bound: int) -> bool:
    """Tells whether a function gives for the other split what it gave for this one, since it does not look at it."""
    try:
        other = _called(function, source, _OTHER[split], bound)
        if len(made.x) != len(other.x) or not np.array_equal(made.y, other.y):
            return False
        both = made.x, other.x
        one, another = (x if isinstance(x, np.ndarray) else x.read(np.arange(min(1, len(x)))) for x in both)
        return np.array_equal(one, another)
    except DataError:  # the function may know only one split
        return False


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _from_archive(archive: Any, path: Path, split: Split, kind: TargetKind | None) -> tuple[OwnSamples, bool]:
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
    own: tuple[str, ...] = ("test",) if own_split and split == "test" else ("", "train")
    group_name = _named(files, GROUP_KEYS, own)
    groups = () if group_name is None else _groups(archive[files[group_name]], f"{path}: {group_name}")
    _check_groups(groups, len(x), str(path))
    return OwnSamples(x, found, groups), own_split


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


def _called(function: Any, source: str, split: Split, bound: int) -> _Returned:
    if not callable(function):
        raise DataError(
            f"{source} is of type {type(function).__name__}, not a function of the split ('train' or 'test')"
        )
    arguments = (split,)[: _arguments(function, source)]
    try:
        with run_foreign_code(source):
            returned = function(*arguments)
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
            return _Returned(*opened, *_named_of(_class_names(made), _groups_of(made), source))
        x, y, names, groups = _unpacked(made, source, split)
        samples, labels = as_array(x, f"{source}: x"), as_array(y, f"{source}: y")
        given = _named_of(names, groups, source)
    check_samples(samples, f"{source}: x")
    return _Returned(samples, labels, *given)


def _named_of(names: Any, groups: Any, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of the classes and those of the groups of the samples, empty where there are none."""
    return (
        () if names is None else _names(names, f"{source}: class names"),
        () if groups is None else _groups(groups, f"{source}: groups"),
    )


def _groups_of(made: Any) -> Any:
    """Returns the groups that a data set of the user's knows, a name a sample; None if it knows none."""
    groups: Any = getattr(made, "groups", None)
    is_list = not callable(groups) and hasattr(groups, "__len__") and hasattr(made, "__len__")
    return groups if is_list and len(groups) == len(made) else None


def _groups(given: Any, what: str) -> tuple[str, ...]:
    """Returns the name of the group of each sample; numbers are names, too."""
    names = as_array(given, what)
    if names.ndim != 1:
        raise DataError(f"{what} must be a list with one name a sample, but it is {list(names.shape)}")
    whole = names.dtype.kind == "f" and bool((names == np.floor(names)).all())
    return tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        for name in (names.astype(np.int64) if whole else names).tolist()
    )


def _check_groups(groups: tuple[str, ...], count: int, source: str) -> None:
    if groups and len(groups) != count:
        raise DataError(f"{source} gave {count} samples and {len(groups)} groups: one group a sample")


def _arguments(function: Any, source: str) -> int:
    """Returns how many arguments a function is called with: the split, or none if it takes none."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled code may have no signature
        return 1
    if not signature.parameters:
        return 0
    try:
        signature.bind("train")
        return 1
    except TypeError as error:
        raise DataError(
            f"{source} must take one argument, 'train' or 'test' ({error_line(error)}): name a function that does, and "
            "calls it"
        ) from None


def _unpacked(made: Any, source: str, split: Split) -> tuple[Any, Any, Any, Any]:
    """Returns the samples, the labels, and the names of classes and groups, None for those that it does not hold."""
    if isinstance(made, Mapping):
        keys = {str(key): str(key) for key in made}
        x_key, y_key = (_named(keys, usual, ("",)) for usual in (SAMPLE_KEYS, LABEL_KEYS))
        if x_key is not None and y_key is not None:
            groups = next((made[key] for key in GROUP_KEYS if key in made), None)
            return made[x_key], made[y_key], made.get("classes"), groups
    if isinstance(made, tuple | list) and len(made) in (2, 3) and not _is_pair(made[0]):
        return made[0], made[1], made[2] if len(made) == 3 else None, None
    if made is None or isinstance(made, Mapping | tuple | str | bytes | np.ndarray | int | float):
        what = "nothing (None)" if made is None else f"a value of type {type(made).__name__}"
        what = f"a tuple of {len(made)}" if isinstance(made, tuple) else what
        raise DataError(f"{source} must return (x, y) or (x, y, class names) for {split!r}, not {what}")
    x, y = pairs_of(made, f"{source}: what it returned for {split!r}")
    return x, y, _class_names(made), _groups_of(made)


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
