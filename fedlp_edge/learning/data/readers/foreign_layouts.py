"""This module recognises folders that are laid out otherwise than class by class, so that one line can say so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.system.printable import counted

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
"""Names of the folders of a split, in small letters."""

SYSTEM_FOLDERS = frozenset(
    (
        "__macosx",
        "lost+found",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "found.000",
        "@recycle",
        "#snapshot",
    )
)
"""Folders of operating systems and network storage, in small letters, that are no classes."""

_ALL_PICTURES = re.compile(r"(jpeg)?images?|(train|val(id)?|test|unlabeled)(20\d\d)?", re.IGNORECASE)
"""Folders of detection data sets with the pictures of all classes."""

_KINDS_NAMED = 3  # kinds of files in a remark

_COCO_FILE = "_annotations.coco.json"


def of_other_kinds(suffixes: Counter[str], advice: str = "") -> str:
    """Returns how many files are of kinds that are left out, with the most frequent ones; empty if there are none.

    Args:
        suffixes: Number of files by suffix; those without one have an empty suffix.
        advice: What the user can do, after the kinds.
    """
    if not suffixes:
        return ""
    kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.most_common()]
    more = len(kinds) - _KINDS_NAMED
    named = "; ".join(kinds[:_KINDS_NAMED]) + (f"; {more:,} more" if more > 0 else "")
    return f"{counted(suffixes.total(), 'file')} of other kinds ({named}{advice and f': {advice}'})"


def detection_remark(folders: Iterable[Path], classes: Collection[str]) -> str:
    """Returns one line on a data set for detection, whose folders of pictures are no classes; empty if it is none.

    Args:
        folders: Folders beside whose entries boxes may stand: that of a split, and the one above it.
        classes: Names of the folders with pictures.

    Raises:
        OSError: A folder cannot be read.
    """
    if not all(_ALL_PICTURES.fullmatch(name) for name in classes):
        return ""
    kind = next((kind for folder in folders if (kind := _boxes_in(folder))), "")
    if not kind:
        return ""
    return (
        f"this looks like a detection data set ({kind}), whose boxes are not read: put the pictures of each class into "
        "a folder that is called like it, or name the classes in each picture in a labels.csv"
    )


def _boxes_in(folder: Path) -> str:
    """Returns the format in which boxes stand in a folder; empty if none do."""
    entries = {path.name.lower(): path for path in folder.iterdir()}
    annotations = entries.get("annotations")
    if "labels" in entries and _has(entries["labels"], "*.txt"):
        return "YOLO: labels/*.txt"
    if _COCO_FILE in entries:
        return f"COCO: {_COCO_FILE}"
    if annotations is not None and _has(annotations, "*.json"):
        return "COCO: annotations/*.json"
    if annotations is not None and _has(annotations, "*.xml"):
        return "Pascal VOC: Annotations/*.xml"
    return ""


def _has(folder: Path, pattern: str) -> bool:
    return folder.is_dir() and next(folder.rglob(pattern), None) is not None


def inner_split_remark(names: Iterable[str]) -> str:
    """Returns one line on splits that lie inside the folders of classes, where they are none; empty if none do.

    Args:
        names: Paths of the samples below the folder of the classes, as ``CLASS/train/a.png``.
    """
    inside: dict[str, set[str]] = {}
    for name in names:
        first, *rest = name.split("/")
        inside.setdefault(first, set()).add(rest[0] if len(rest) > 1 else "")
    for below in inside.values():
        known = [next((name for name in below if name.lower() in usual), "") for usual in SPLIT_NAMES.values()]
        if not all(known):
            return ""
    if not inside:
        return ""
    train, test = known
    return (
        f"{train} and {test} inside the folders of classes are taken together: for two splits put them above, as "
        f"{train}/CLASS and {test}/CLASS"
    )
