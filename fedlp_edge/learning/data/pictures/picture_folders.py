"""This module lists the pictures of a folder with their classes, and ignores all other files.

No picture is opened here. Whatever is left out is counted, so that it can be reported in one line.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import (
    LISTING,
    alike_in_capitals,
    find_class_listing,
    normalized_name,
    read_class_listing,
)
from fedlp_edge.learning.data.pictures.picture_decoding import SUFFIXES, PictureFile, display_name
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.foreign_layouts import (
    SPLIT_NAMES,
    SYSTEM_FOLDERS,
    detection_remark,
    inner_split_remark,
    of_other_kinds,
)
from fedlp_edge.learning.data.spec.foreign_kinds import ARRAY_EACH, foreign_kind
from fedlp_edge.system.printable import counted

_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_UNREAD_KINDS = frozenset((".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw"))
_FILMS = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mts", ".3gp", ".h264", ".mjpeg"))
_MAX_NAMED = 3  # examples of each kind in the summary


@dataclass
class SkippedFiles:
    """Counts what a folder holds besides the pictures that are used.

    Attributes:
        system: Number of files and folders that an operating system or a program made for itself.
        other: Number of files that are not pictures, by suffix.
        empty: Names of class folders without a picture.
        beside: Number of pictures that lie in no class folder.
        unread: Pictures that cannot be read, each as "NAME REASON".
        frames: Number of pictures with several frames, of which only the first is used.
        one_class: Name of the only class if its pictures lie in several folders, which may be the real classes; empty
            otherwise.
        alike: Names of classes that differ in capitals alone.
        layout: Line on a folder that is laid out for something else; empty if it is not.
        contradicting: Pairs of files that hold one picture under two classes, each as "NAME is NAME".
    """

    system: int = 0
    other: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    beside: int = 0
    unread: list[str] = field(default_factory=list)
    frames: int = 0
    one_class: str = ""
    alike: tuple[str, ...] = ()
    layout: str = ""
    contradicting: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Returns the report in one line; empty if everything is used."""
        skipped = []
        if self.unread:
            skipped.append(f"{counted(len(self.unread), 'picture')} that cannot be read ({_some(self.unread)})")
        if self.beside:
            skipped.append(f"{counted(self.beside, 'picture')} in no class folder")
        if self.empty:
            skipped.append(f"{counted(len(self.empty), 'folder')} without pictures ({_some(self.empty)})")
        if self.other:
            # Telephones write HEIC and cameras their own kinds: these are pictures to the user.
            advice = (
                "convert HEIC and raw pictures to JPEG" if _UNREAD_KINDS & self.other.keys() else "",
                "save frames of films as pictures" if _FILMS & self.other.keys() else "",
                "give those without a suffix the one of their kind" if "" in self.other else "",
            )
            skipped.append(of_other_kinds(self.other, ", ".join(filter(None, advice))))
        if self.system:
            skipped.append(f"{counted(self.system, 'hidden or system entry', 'hidden or system entries')}")
        parts = [self.layout] if self.layout else []
        if skipped:
            parts.append(f"left out: {', '.join(skipped)}")
        if self.frames:
            parts.append(f"only the first frame is used of {counted(self.frames, 'picture')} with several")
        if self.contradicting:
            count = counted(len(self.contradicting), "picture")
            parts.append(f"{count} in a folder that another class has as well ({_some(self.contradicting)})")
        if self.alike:
            parts.append(f"classes that differ in capitals alone count as different: {', '.join(self.alike)}")
        if self.one_class:
            parts.append(
                f"the folders in {self.one_class} count as one class: "
                f"name {self.one_class} itself if they are the classes"
            )
        return "; ".join(parts)


@dataclass(frozen=True)
class PictureList:
    """Lists the pictures of one split.

    Attributes:
        base: Folder that holds the class folders.
        classes: Class names by class number.
        files: Paths of the N pictures, sorted by class; or pictures that lie in the fields of a table.
        labels: Class numbers, int64 [N].
        skipped: Count of everything else in the folder.
        names: Paths below the folder, in one spelling, or hashes of the contents; empty if the folders are the classes.
        nbytes: Memory that the encoded pictures take, bytes; none if they are files.
    """

    base: Path
    classes: tuple[str, ...]
    files: Sequence[PictureFile]
    labels: npt.NDArray[np.int64]
    skipped: SkippedFiles
    names: tuple[str, ...] = ()
    nbytes: int = 0

    def name_of(self, index: int) -> str:
        """Returns the path of a picture below the folder, class name first, in one spelling on every system."""
        if self.names:
            return self.names[index]
        label = int(self.labels[index])
        parts = Path(str(self.files[index])).relative_to(self.base).parts[1:]
        return unicodedata.normalize("NFC", "/".join((self.classes[label], *parts)))

    def shown(self, index: int) -> str:
        """Returns what a picture is called in messages about the folder."""
        file = self.files[index]
        return display_name(file.relative_to(self.base) if isinstance(file, Path) else str(file))


def list_pictures(root: Path, split: Split, held_out: float | None) -> PictureList:
    """Lists the pictures of one split of a folder.

    Args:
        root: Folder that holds class folders, or a ``train`` and a ``test`` folder with class folders.
        split: Split to list.
        held_out: Share of the pictures, 0 to 1, that is held out for testing if there are no such two folders; None
            lists all pictures for either split.

    Raises:
        DataError: The folder cannot be read, has no class folders or no pictures, or its ``classes.txt`` is wrong.
    """
    try:
        return _listed(root, split, held_out)
    except OSError as error:
        raise DataError(f"cannot read {display_name(str(error.filename or root))}: {error.strerror}") from None


def pictures_below(folder: Path, *, arrays_too: bool = False) -> tuple[list[Path], str]:
    """Lists all pictures in a folder and its subfolders, whatever their class.

    Args:
        folder: Folder to search; hidden and system files and folders are skipped.
        arrays_too: Whether the caller uses ``.npy`` files, too, so that the report must not call them left out.

    Returns:
        Paths of the pictures in the order of their names; and a report in one line on what else the folder holds.

    Raises:
        OSError: The folder cannot be read.
    """
    skipped = SkippedFiles()
    files = sorted(_below(folder, skipped, ancestors=()), key=lambda path: path.relative_to(folder).parts)
    if arrays_too:
        del skipped.other[".npy"]
    return files, str(skipped)


def _listed(root: Path, split: Split, held_out: float | None) -> PictureList:
    splits = _split_folders(root)
    base = splits.get(split) if splits else root
    if base is None:
        other = next(iter(splits.values())).name
        raise DataError(f"{display_name(root)} has no {split} directory beside its directory {other}")
    skipped = SkippedFiles()
    members = _by_class(base, skipped)
    # The classes of both splits are numbered together, so that a class has one number in both.
    known = {name for folder in splits.values() for name in _class_folders(folder)} | set(members)
    skipped.layout = detection_remark(dict.fromkeys((base, root)), known)
    if not known:
        raise DataError(_no_classes(base, split, skipped))
    if (
        not skipped.layout
        and len(known) == 1
        and len({path.parent for found in members.values() for _, path in found}) > 1
    ):
        skipped.one_class = display_name(*known)
    elif not skipped.layout and not splits:
        skipped.layout = inner_split_remark(f"{name}/{below}" for name, found in members.items() for below, _ in found)
    classes = _numbered(root, base, known)
    skipped.alike = alike_in_capitals(classes)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for relative, path in members.get(name, ()):
            if splits or held_out is None or _is_held_out(f"{name}/{relative}", held_out) == (split == "test"):
                files.append(path)
                labels.append(label)
    if not files:
        raise DataError(_no_classes(base, split, skipped))
    return PictureList(base, classes, files, np.asarray(labels, dtype=np.int64), skipped)


def _no_classes(base: Path, split: Split, skipped: SkippedFiles) -> str:
    if skipped.beside:
        return f"{display_name(base)} holds {counted(skipped.beside, 'picture')} but no class folders: " + (
            skipped.layout
            or "put the pictures of each class into a folder that is called like it, or name the class of each in a "
            f"labels.csv{_list_beside(base)}"
        )
    message = f"{display_name(base)} holds no {split} images: it needs CLASS/*.png (or {', '.join(SUFFIXES[1:])})"
    kinds = (ARRAY_EACH if suffix == ".npy" else foreign_kind(suffix) for suffix, _ in skipped.other.most_common())
    foreign = next(filter(None, kinds), "")
    return "; ".join(filter(None, (message, str(skipped), foreign)))


def _list_beside(base: Path) -> str:
    """Returns which file in or beside a folder may be a list of its pictures, with what to do; empty if none may."""
    inside = [path for path in base.iterdir() if path.suffix.lower() == ".csv"]
    beside = base.with_name(f"{base.name}.csv")
    found = next(iter(sorted(inside)), beside if beside.is_file() else None)
    if found is None:
        return ""
    return f" (as {display_name(found.relative_to(base.parent))} may be: call it labels.csv, and name its folder)"


def _split_folders(root: Path) -> dict[Split, Path]:
    """Returns the folders of the splits, if there are any; a class may be called ``train``, too."""
    folders = {path.name.lower(): path for path in _folders(root)}
    found: dict[Split, Path] = {}
    for split, names in SPLIT_NAMES.items():
        named = next((folders[name] for name in names if name in folders), None)
        if named is not None:
            found[split] = named
    others = [path for name, path in folders.items() if not any(name in names for names in SPLIT_NAMES.values())]
    if not any(_has_pictures(path) for path in others):
        return found
    # Where other folders hold pictures, too, these folders are splits only as a pair with class folders in each.
    divided = len(found) == 2 and all(_class_folders(path) and not _holds_pictures(path) for path in found.values())
    return found if divided else {}


def _by_class(base: Path, skipped: SkippedFiles) -> dict[str, list[tuple[str, Path]]]:
    """Returns the pictures by class, each with its path relative to the class folder."""
    members: dict[str, list[tuple[str, Path]]] = {}
    for entry in _entries(base, skipped):
        path = Path(entry.path)
        if not _is_folder(entry):
            if _is_picture(entry):
                skipped.beside += 1
            elif entry.name.lower() != LISTING:
                skipped.other[path.suffix.lower()] += 1
            continue
        below = sorted(_below(path, skipped, ancestors=()), key=lambda found: found.relative_to(path).parts)
        if below:
            named = members.setdefault(normalized_name(entry.name), [])
            named += [(unicodedata.normalize("NFC", found.relative_to(path).as_posix()), found) for found in below]
        else:
            skipped.empty.append(display_name(entry.name))
    return members


def _below(folder: Path, skipped: SkippedFiles, ancestors: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yields the pictures in a folder and its subfolders, without following links to a folder's own ancestors."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in ancestors:
        return
    for entry in _entries(folder, skipped):
        if _is_folder(entry):
            yield from _below(Path(entry.path), skipped, (*ancestors, here))
        elif _is_picture(entry):
            yield Path(entry.path)
        else:
            skipped.other[Path(entry.name).suffix.lower()] += 1


def _entries(folder: Path, skipped: SkippedFiles) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    own = [entry for entry in entries if not _is_system(entry)]
    skipped.system += len(entries) - len(own)
    return own


def _is_system(entry: os.DirEntry[str]) -> bool:
    name = entry.name.lower()
    return (
        name.startswith(".")
        or name.endswith(":zone.identifier")
        or name in (SYSTEM_FOLDERS if _is_folder(entry) else _SYSTEM_FILES)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _is_picture(entry: os.DirEntry[str]) -> bool:
    if not entry.name.lower().endswith(SUFFIXES):
        return False
    try:  # reading a pipe would block; a broken link counts as a picture that cannot be read
        return entry.is_file() or entry.is_symlink()
    except OSError:
        return True


def _folders(root: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(root, SkippedFiles()) if _is_folder(entry)]


def _holds_pictures(folder: Path) -> bool:
    return any(not _is_folder(entry) and _is_picture(entry) for entry in _entries(folder, SkippedFiles()))


def _has_pictures(folder: Path) -> bool:
    return next(_below(folder, SkippedFiles(), ancestors=()), None) is not None


def _class_folders(base: Path) -> list[str]:
    return [normalized_name(path.name) for path in _folders(base) if _has_pictures(path)]


def _numbered(root: Path, base: Path, found: set[str]) -> tuple[str, ...]:
    """Returns the class names by class number, from ``classes.txt`` if there is one, else sorted.

    With the list, a device that lacks a class still gives the other classes the fleet's numbers.
    """
    listing = find_class_listing(root)
    if listing is None:
        return tuple(sorted(found))
    names = read_class_listing(listing)
    for name in sorted(found.difference(names)):
        near = next((listed for listed in names if listed.casefold() == name.casefold()), None)
        hint = f"; it names {near!r}" if near else f"; it names {_some(list(map(repr, names)))}"
        raise DataError(f"{display_name(base / name)} is a class that {display_name(listing)} does not name{hint}")
    return names


def _is_held_out(name: str, share: float) -> bool:
    """Decides by a hash of the picture's name, so that a picture added later moves no other one to the other split."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def _some(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    return "; ".join(names[:_MAX_NAMED]) + (f"; {more:,} more" if more > 0 else "")
