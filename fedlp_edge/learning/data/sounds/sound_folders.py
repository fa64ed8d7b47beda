"""This module lists the sounds of a folder with their classes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import (
    alike_in_capitals,
    find_class_listing,
    normalized_name,
    read_class_listing,
)
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.foreign_layouts import (
    SPLIT_NAMES,
    SYSTEM_FOLDERS,
    inner_split_remark,
    of_other_kinds,
)
from fedlp_edge.learning.data.readers.groups import grouped, groups_by_path
from fedlp_edge.learning.data.readers.label_lists import LABELS, LabelledFiles, find_labels, list_labelled
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.sample_keys import is_in_test_split, keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets
from fedlp_edge.learning.data.sounds.log_mel import SUFFIXES
from fedlp_edge.learning.data.sounds.sound_samples import SoundList, sound_samples
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.system.printable import counted

_UNREAD = frozenset((".m4a", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".mka", ".ac3"))
"""Suffixes of sounds that neither SciPy nor soundfile reads, such as those of telephones."""

_NOISE = "_background_noise_"
"""Folder of the Speech Commands with long recordings of noise, which is no class of theirs."""

_TESTS = "testing_list.txt"
"""File of theirs with the sounds that are meant for tests."""


def list_sounds(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    """Lists the sounds of one split of a folder that holds folders of classes, or a ``labels.csv``.

    Raises:
        DataError: The folder cannot be read, or has no sounds or no classes.
    """
    try:
        listing = find_labels(spec.path)
        if listing is not None:
            found = list_labelled(listing, _below(spec.path), split, spec.held_out, kind, spec.table.group)
        else:
            found = _in_folders(spec, split, kind)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or spec.path}: {error.strerror}") from None

    sounds = SoundList(found.files, found.names, found.names, found.targets, found.remarks)

    def samples(keep: Indices | None) -> Samples:
        return sound_samples(sounds, spec, keep)

    listed = SampleListing(coarse_classes(found.targets), found.targets.names, samples)
    if not spec.table.group:
        return listed
    owners = found.groups or groups_by_path(found.names, spec.table.group, str(spec.path))
    return grouped(listed, owners, spec.table.only, str(spec.path))


def _below(folder: Path) -> list[Path]:
    """Returns the sounds below a folder, sorted; links to files and folders are followed, unless in a circle."""
    return [path for path in _files_below(folder) if path.suffix.lower() in SUFFIXES]


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    waiting = [(folder, frozenset[str]())]
    while waiting:
        here, above = waiting.pop()
        real = os.path.realpath(here)
        if real in above:
            continue
        for path in here.iterdir():
            if path.name.startswith(".") or path.name.lower() in SYSTEM_FOLDERS:
                continue
            if path.is_dir():
                waiting.append((path, above | {real}))
            elif path.is_file():
                found.append(path)
    return sorted(found)


def _in_folders(spec: DataSpec, split: Split, kind: TargetKind | None) -> LabelledFiles:
    root = spec.path
    splits = _split_folders(root)
    base = splits.get(split, root)
    below = [path.relative_to(part) for part in (splits.values() or (root,)) for path in _files_below(part)]
    everywhere = [path for path in below if path.suffix.lower() in SUFFIXES]
    labelled = [path for path in everywhere if _is_labelled(path)]
    classes = sorted({normalized_name(path.parts[0]) for path in labelled})
    unread = ", ".join(filter(None, (_of_unread_kinds(root), _of_other_kinds(below))))
    if not classes:
        what = f"{unread}; " if unread else ""
        raise DataError(f"{root} holds no sounds in folders of classes: {what}it needs CLASS/*.wav, or {LABELS}")
    names = _class_names(root, classes)
    files = [path for path in _below(base) if _is_labelled(path.relative_to(base))]
    paths = [path.relative_to(base).as_posix() for path in files]
    if not splits and spec.held_out is not None:
        listed = _listed_tests(root)
        in_test = np.isin(paths, listed) if listed else is_in_test_split(keys_of_names(paths), spec.held_out)
        keep = np.flatnonzero(in_test == (split == "test")).tolist()
        files, paths = [files[i] for i in keep], [paths[i] for i in keep]
    labels = np.asarray([names.index(normalized_name(path.split("/")[0])) for path in paths], np.int64)
    targets = read_targets(labels, len(labels), names, str(root), kind) if files else Targets(labels, names, "class")
    inner = "" if splits else inner_split_remark(path.as_posix() for path in labelled)
    doubts = (_left_out(everywhere, unread), _alike(names), _one_class(classes, labelled))
    return LabelledFiles(base, files, tuple(paths), targets, "; ".join(filter(None, (inner, *doubts))))


def _is_labelled(path: Path) -> bool:
    """Tells whether a sound, by its path below the folders of classes, lies in one of these."""
    return len(path.parts) > 1 and path.parts[0] != _NOISE


def _class_names(root: Path, classes: list[str]) -> tuple[str, ...]:
    """Returns the names of all classes: those of the folders, or of a listing beside them.

    Raises:
        DataError: A folder is none of the listed classes.
    """
    listing = find_class_listing(root)
    names = read_class_listing(listing) if listing is not None else tuple(classes)
    if unknown := [name for name in classes if name not in names]:
        raise DataError(f"{root / unknown[0]} is a class that {listing} does not name")
    return names


def _left_out(everywhere: list[Path], unread: str) -> str:
    """Returns which sounds no class has."""
    noise = sum(path.parts[0] == _NOISE for path in everywhere)
    beside = sum(len(path.parts) == 1 for path in everywhere)
    parts = (
        f"{counted(beside, 'sound')} in no class folder" if beside else "",
        f"{counted(noise, 'sound')} of {_NOISE}" if noise else "",
        unread,
    )
    said = ", ".join(filter(None, parts))
    return f"left out: {said}" if said else ""


def _alike(names: tuple[str, ...]) -> str:
    alike = ", ".join(alike_in_capitals(names))
    return f"classes that differ in capitals alone count as different: {alike}" if alike else ""


def _one_class(classes: list[str], labelled: list[Path]) -> str:
    """Returns a remark where the only class has folders, which may be the classes."""
    if len(classes) > 1 or len({path.parent for path in labelled}) == 1:
        return ""
    return f"the folders in {classes[0]} count as one class: name {classes[0]} itself if they are the classes"


def _split_folders(root: Path) -> dict[Split, Path]:
    """Returns the folders of both splits, by the names that those of pictures may have; empty if there are no two."""
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    found = {
        split: folders[known]
        for split, names in SPLIT_NAMES.items()
        if (known := next((name for name in names if name in folders), None)) is not None
    }
    return found if len(found) == len(SPLIT_NAMES) else {}


def _listed_tests(root: Path) -> list[str]:
    """Returns the sounds of the Speech Commands' own list of tests, whose speakers stand in no other; empty without."""
    listing = root / _TESTS
    if not listing.is_file():
        return []
    return [line.strip() for line in listing.read_text(encoding="utf-8", errors="replace").splitlines()]


def _of_unread_kinds(root: Path) -> str:
    """Returns how many sounds are of kinds that are not read, for people; empty if there are none."""
    kinds = Counter(suffix for path in root.rglob("*.*") if (suffix := path.suffix.lower()) in _UNREAD)
    if not kinds:
        return ""
    found = counted(kinds.total(), "sound that is", "sounds that are")
    return f"{found} not read ({', '.join(sorted(kinds))}: convert them to WAV or FLAC)"


def _of_other_kinds(files: list[Path]) -> str:
    """Returns how many files in the folders of classes are no sounds, for people; empty if there are none."""
    suffixes = (path.suffix.lower() for path in files if _is_labelled(path))
    return of_other_kinds(Counter(suffix for suffix in suffixes if suffix not in SUFFIXES and suffix not in _UNREAD))
