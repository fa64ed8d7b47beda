"""This module lists the sounds of a folder with their classes, and reads them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import (
    alike_in_capitals,
    find_class_listing,
    normalized_name,
    read_class_listing,
)
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_reader import raise_too_many
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.foreign_layouts import SPLIT_NAMES, SYSTEM_FOLDERS, inner_split_remark
from fedlp_edge.learning.data.readers.label_lists import LABELS, LabelledFiles, find_labels, list_labelled
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, is_in_test_split, keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets
from fedlp_edge.learning.data.readers.unread_files import TRIED, UnreadFiles
from fedlp_edge.learning.data.sounds.log_mel import MEAN, STD, SUFFIXES, SoundError, read_log_mel, shape_of
from fedlp_edge.learning.data.spec import DataSpec, SoundOptions

_UNREAD = frozenset((".m4a", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".mka", ".ac3"))
"""Suffixes of sounds that neither SciPy nor soundfile reads, such as those of telephones."""

_NOISE = "_background_noise_"
"""Folder of the Speech Commands with long recordings of noise, which is no class of theirs."""


class SoundReader:
    """Reads sounds; in place of one that cannot be read, silence is given.

    Args:
        files: Paths of the N sounds.
        names: Paths below the folder, N.
        options: Conversion of the sounds.
        base: The folder, for people.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)
    nbytes = 0

    def __init__(self, files: list[Path], names: list[str], options: SoundOptions, base: str) -> None:
        self._base = base
        self._files = files
        self._names = names
        self._options = options
        self.shape: tuple[int, ...] = shape_of(options)
        self._unread = UnreadFiles(len(files))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: Indices) -> npt.NDArray[np.float32]:
        """Returns the spectrograms at some positions, float32 [B, 1, mels, frames].

        Raises:
            DataError: Too many sounds are damaged.
            DataAwayError: Too many cannot be read, some of which cannot be opened.
        """
        made = np.full((len(indices), *self.shape), np.log(1e-6), np.float32)
        for row, index in enumerate(indices.tolist()):
            if self._unread.is_damaged(index):
                continue
            try:
                made[row] = read_log_mel(self._files[index], self._options)
            except SoundError as error:
                self._unread.was_not_read(index, f"{self._names[index]} {error.reason}", lost=error.lost)
                if self._unread.too_many:
                    raise_too_many(self._base, "sounds", self._unread)
            else:
                self._unread.was_read(index)
        return made

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the path of each sound."""
        return keys_of_names(self._names[index] for index in indices.tolist())

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which sounds are trained on, and which are held out."""
        held = is_held_out(self.keys(indices), share)
        return ~held, held

    @property
    def unread_files(self) -> UnreadFiles:
        """Sounds for which silence stands."""
        return self._unread

    @property
    def unread(self) -> int:
        """Number of sounds that were found to be unreadable."""
        return len(self._unread)

    @property
    def first_unread(self) -> str:
        """Name of the first sound that cannot be read, and why; only if there is one."""
        return self._unread.first

    def take_note(self) -> str:
        """Returns how many sounds could not be read, if more than at the last call."""
        if not self._unread.are_news():
            return ""
        return f"{self._note(len(self))}; silence stands for them"

    def _note(self, among: int) -> str:
        return f"{len(self._unread)} of {among} sounds cannot be read, the first is {self.first_unread}"


def list_sounds(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    """Lists the sounds of one split of a folder that holds folders of classes, or a ``labels.csv``.

    Raises:
        DataError: The folder cannot be read, or has no sounds or no classes.
    """
    try:
        listing = find_labels(spec.path)
        if listing is not None:
            found = list_labelled(listing, _below(spec.path), split, spec.held_out, kind)
        else:
            found = _in_folders(spec, split, kind)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or spec.path}: {error.strerror}") from None

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(found.files)) if keep is None else keep
        chosen = index.tolist()
        reader = SoundReader(
            [found.files[i] for i in chosen], [found.names[i] for i in chosen], spec.sound, str(spec.path)
        )
        size = len(index) * int(np.prod(reader.shape)) * reader.dtype.itemsize
        reader.read(np.unique(np.linspace(0, len(index) - 1, min(TRIED, len(index))).astype(np.int64)))
        small = size <= spec.memory_bound
        x = (
            reader.read(np.arange(len(index)))
            if small
            else CachedReader(reader, spec.memory_bound, reader.unread_files)
        )
        if len(index) and reader.unread == len(index):
            raise DataError(f"{spec.path}: none of its sounds can be read, the first is {reader.first_unread}")
        return Samples(
            x,
            found.targets.y[index],
            found.targets.names,
            scale=1.0,
            mean=(MEAN,),
            std=(STD,),
            index=index,
            remarks="; ".join(filter(None, (found.remarks, reader.take_note()))),
            targets=found.targets.kind,
            names=keys_of_names(found.names[i] for i in chosen),
        )

    return SampleListing(coarse_classes(found.targets), found.targets.names, samples)


def _below(folder: Path) -> list[Path]:
    """Returns the sounds below a folder, sorted; links to files and folders are followed, unless in a circle."""
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
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                found.append(path)
    return sorted(found)


def _in_folders(spec: DataSpec, split: Split, kind: TargetKind | None) -> LabelledFiles:
    root = spec.path
    splits = _split_folders(root)
    divided = bool(splits)
    base = splits.get(split, root)
    everywhere = [path.relative_to(part) for part in (splits.values() or (root,)) for path in _below(part)]
    noise = sum(path.parts[0] == _NOISE for path in everywhere)
    everywhere = [path for path in everywhere if path.parts[0] != _NOISE]
    beside = sum(len(path.parts) < 2 for path in everywhere)
    classes = sorted({normalized_name(path.parts[0]) for path in everywhere if len(path.parts) > 1})
    unknown_kinds = _of_unread_kinds(root)
    if not classes:
        what = f"{unknown_kinds}; " if unknown_kinds else ""
        raise DataError(f"{root} holds no sounds in folders of classes: {what}it needs CLASS/*.wav, or {LABELS}")
    listing = find_class_listing(root)
    names = read_class_listing(listing) if listing is not None else tuple(classes)
    if unknown := [name for name in classes if name not in names]:
        raise DataError(f"{root / unknown[0]} is a class that {listing} does not name")
    files = [path for path in _below(base) if path.relative_to(base).parts[0] != _NOISE]
    files = [path for path in files if len(path.relative_to(base).parts) > 1]
    paths = [path.relative_to(base).as_posix() for path in files]
    if not divided and spec.held_out is not None:
        keep = np.flatnonzero(is_in_test_split(keys_of_names(paths), spec.held_out) == (split == "test")).tolist()
        files, paths = [files[i] for i in keep], [paths[i] for i in keep]
    labels = np.asarray([names.index(normalized_name(path.split("/")[0])) for path in paths], np.int64)
    targets = read_targets(labels, len(labels), names, str(root), kind) if files else Targets(labels, names, "class")
    in_none = f"{beside:,} sounds in no class folder" if beside else ""
    left_out = filter(None, (in_none, f"{noise:,} sounds of {_NOISE}" if noise else "", unknown_kinds))
    inner = "" if divided else inner_split_remark(path.as_posix() for path in everywhere if len(path.parts) > 1)
    alike = ", ".join(alike_in_capitals(names))
    doubts = (
        f"left out: {said}" if (said := ", ".join(left_out)) else "",
        f"classes that differ in capitals alone count as different: {alike}" if alike else "",
        f"the folders in {classes[0]} count as one class: name {classes[0]} itself if they are the classes"
        if len(classes) == 1 and len({path.parent for path in everywhere if len(path.parts) > 1}) > 1
        else "",
    )
    remarks = "; ".join(filter(None, (inner, *doubts)))
    return LabelledFiles(base, files, tuple(paths), targets, remarks)


def _split_folders(root: Path) -> dict[Split, Path]:
    """Returns the folders of both splits, by the names that those of pictures may have; empty if there are no two."""
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    found = {
        split: folders[known]
        for split, names in SPLIT_NAMES.items()
        if (known := next((name for name in names if name in folders), None)) is not None
    }
    return found if len(found) == len(SPLIT_NAMES) else {}


def _of_unread_kinds(root: Path) -> str:
    """Returns how many sounds are of kinds that are not read, for people; empty if there are none."""
    kinds = Counter(suffix for path in root.rglob("*.*") if (suffix := path.suffix.lower()) in _UNREAD)
    if not kinds:
        return ""
    return f"{kinds.total():,} sounds that are not read ({', '.join(sorted(kinds))}: convert them to WAV or FLAC)"
