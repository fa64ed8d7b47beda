"""This module knows the kinds of sources by their names, and what people write in place of these."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fedlp_edge.errors import DataError, StorageError
from fedlp_edge.learning.data.spec.foreign_kinds import foreign_kind
from fedlp_edge.learning.foreign_code import misnamed
from fedlp_edge.system.directories import expand_user
from fedlp_edge.system.path_hints import ARCHIVES, path_hint, shown_path

DATASET_NAMES = ("digits", "fashion-mnist", "mnist", "cifar10")
_OWN = (
    "imagefolder:DIR, audiofolder:DIR, csv:FILE, json:FILE, parquet:FILE, huggingface:DIR, npy:FILE, npz:FILE or "
    "module:callable"
)
FORMS = f"{', '.join(DATASET_NAMES)}, {_OWN}"
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

Source = Literal[
    "digits",
    "fashion-mnist",
    "mnist",
    "cifar10",
    "imagefolder",
    "audiofolder",
    "csv",
    "json",
    "parquet",
    "huggingface",
    "npy",
    "npz",
    "callable",
]
ON_DISK: dict[str, Source] = {
    "imagefolder": "imagefolder",
    "audiofolder": "audiofolder",
    "csv": "csv",
    "json": "json",
    "parquet": "parquet",
    "huggingface": "huggingface",
    "npy": "npy",
    "npz": "npz",
}
_KIND_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".arff": "csv",
    ".data": "csv",
    ".dat": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "huggingface",
    ".npy": "npy",
    ".npz": "npz",
}
_FILE_SUFFIXES = (".tar", ".txt", ".zip", *_KIND_OF_SUFFIX)
"""Suffixes of files that people name behind a kind that does not exist, which is then no module with a function."""

_OTHER_NAMES = {
    "hf": "huggingface",
    "datasets": "huggingface",
    "arrow": "huggingface",
    "images": "imagefolder",
    "folder": "imagefolder",
    "audio": "audiofolder",
    "numpy": "npz",
    "tsv": "csv",
    "arff": "csv",
    "jsonl": "json",
    "ndjson": "json",
}
"""Names that people give to kinds of sources, and what these are called."""

FOLDERS = ("imagefolder", "audiofolder")
TABLES = ("csv", "json", "parquet")
WITH_GROUPS = ("npz", "callable")
"""Sources that hold the groups of their samples beside these, without a column."""

PICTURES = ("imagefolder", "huggingface")
"""Sources of pictures, which are resized for the model."""

_OF_DATASETS = ("dataset_dict.json", "dataset_info.json", "state.json")
"""Files that ``save_to_disk`` of Hugging Face's ``datasets`` writes beside the samples."""


def parse_source(name: str) -> tuple[Source, str]:
    """Parses the part of a specification that names the source.

    Returns:
        The kind of source, and its directory, file or ``module:callable``; empty for a public data set.

    Raises:
        DataError: There is no such source; the message says what to write.
    """
    for named in DATASET_NAMES:
        if name == named:
            return named, ""  # type: ignore[return-value]  # DATASET_NAMES is a subset of Source
    kind, _, argument = name.partition(":")
    if kind in ON_DISK:
        if not argument:
            raise DataError(f"data {name!r} lacks its {'directory' if kind in FOLDERS else 'file'}: write {FORMS}")
        return ON_DISK[kind], argument
    if kind in DATASET_NAMES and "=" in argument:
        raise DataError(f"data {name!r}: options stand behind #: write {kind}#{argument}")
    known = next((known for known in DATASET_NAMES if _letters(known) == _letters(name)), "")
    if known and not Path(name).exists():
        raise DataError(f"data {name!r}: write {known}")
    if kind.lower() in _OTHER_NAMES:
        raise DataError(f"data {name!r}: write {_OTHER_NAMES[kind.lower()]}:{argument}")
    if kind.lower() in ON_DISK:
        raise DataError(f"data {name!r}: write {kind.lower()}:{argument}")
    may_be_module = _CALLABLE.fullmatch(name) is not None and not _exists(argument)
    if foreign := foreign_kind(name) or (foreign_kind(kind) if argument and not may_be_module else ""):
        raise DataError(f"data {name!r}: {foreign}")
    if _CALLABLE.fullmatch(name):
        if Path(argument).suffix.lower() in _FILE_SUFFIXES:
            raise DataError(f"data {name!r}: there is no kind {kind!r} for files: use {FORMS}")
        return "callable", name
    if remedy := misnamed(name) or _without_kind(name):
        raise DataError(f"data {name!r}: {remedy}")
    raise DataError(f"data {name!r} is unknown: use {FORMS}")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long a name
        return False


def _letters(name: str) -> str:
    """Returns the letters and digits of a name, in which ways to write it do not differ."""
    return "".join(filter(str.isalnum, name.lower()))


def _without_kind(name: str) -> str:
    """Returns what to write for a path of a file or directory, or that there is none; empty for anything else."""
    try:
        path = expand_user(name.removeprefix("file://"))
        if not name or not path.exists():
            is_path = "/" in name and ":" not in name
            return f"there is no {shown_path(path)}{path_hint(name, path)}" if is_path else ""
        if path.name.lower().endswith(ARCHIVES):
            return "it is an archive: unpack it, and name what was in it"
        if path.is_dir():
            kinds = {_KIND_OF_SUFFIX.get(file.suffix.lower(), "") for file in path.iterdir()}
            found = next((kind for kind in ("csv", "parquet", "npy") if kind in kinds), "imagefolder")
            if any((path / name).is_file() for name in _OF_DATASETS):
                found = "huggingface"
        else:
            found = _KIND_OF_SUFFIX.get(path.suffix.lower(), "")
    except (OSError, StorageError):  # no permission, too long a name, or the home of an unknown user
        return ""
    if not found:
        return f"a file of this kind cannot be read; use {FORMS}"
    return f"say what kind of data it is, as in {found}:{path}"
