"""This module finds the tables in a folder, and names their groups."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.foreign_layouts import SYSTEM_FOLDERS
from fedlp_edge.learning.data.spec.foreign_kinds import foreign_kind
from fedlp_edge.system.directories import walk_folders

SUFFIXES = {
    "csv": (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".arff", ".data", ".dat"),
    "json": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
    "parquet": (".parquet", ".pq"),
}
"""Suffixes, in lower case, of the files in a directory that count as tables, by the source."""

_OF_NOTES = (".txt", ".data", ".dat")
"""Suffixes of tables that other files have as well; they count if nothing else in a directory does."""


def table_files(path: Path, source: str) -> list[Path]:
    """Returns a table's file, or the tables in a directory and its subdirectories, in the order of their names.

    Raises:
        DataError: The directory cannot be read, or holds no table.
    """
    if not path.is_dir():
        return [path]
    suffixes = SUFFIXES[source]

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename or path)
        if folder == path or not _is_hidden(folder, path, source):
            raise DataError(f"cannot read {folder}: {error.strerror}") from None

    below = [here / name for here, names in walk_folders(path, unreadable) for name in names]
    found = sorted(
        file
        for file in below
        if file.name.lower().endswith(suffixes) and not _is_hidden(file, path, source) and file.is_file()
    )
    if any(_is_note(file) for file in found) and not all(_is_note(file) for file in found):
        found = [file for file in found if not _is_note(file)]
    if not found:
        other = next((what for file in below if (what := foreign_kind(file.name))), "")
        hint = f"; {other}" if other else ""
        raise DataError(f"{path} holds no table: it needs files that end in {', '.join(suffixes[:3])}{hint}")
    return found


def file_names(files: Sequence[Path], root: Path) -> list[str]:
    """Returns a name for each file's group: its own without suffix, with its folders where that is not unique."""
    short = [_without_suffix(file.name) for file in files]
    if len(set(short)) == len(short):
        return short
    return [_without_suffix(file.relative_to(root).as_posix()) for file in files]


def folder_name(file: Path, root: Path) -> str:
    """Returns the name of the folder below the root that a file lies in, at whatever depth; empty if in none."""
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    return unicodedata.normalize("NFC", folders[0]) if folders else ""


def copies_in(files: Sequence[Path]) -> list[Path]:
    """Returns the files that hold the same bytes as one before them, such as copies that a browser has made.

    Raises:
        DataError: A file cannot be read.
    """
    found = []
    seen: dict[tuple[int, bytes], Path] = {}
    try:
        sizes = [file.stat().st_size for file in files]
        alike = Counter(sizes)
        for file, size in zip(files, sizes, strict=True):
            if size and alike[size] > 1:  # the others are not read for this
                with file.open("rb") as opened:
                    digest = hashlib.file_digest(opened, "blake2b").digest()
                if seen.setdefault((size, digest), file) != file:
                    found.append(file)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    return found


def _without_suffix(name: str) -> str:
    suffixes = sorted((suffix for some in SUFFIXES.values() for suffix in some), key=len, reverse=True)
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def _is_hidden(entry: Path, root: Path, source: str) -> bool:
    """Tells whether an entry is none of the owner's: editors, notebooks, systems and Spark keep it for themselves."""
    hidden = (".", "_", "~") if source == "parquet" else (".", "~$", "__MACOSX")
    parts = entry.relative_to(root).parts
    return any(part.startswith(hidden) or part.lower() in SYSTEM_FOLDERS for part in parts)


def _is_note(file: Path) -> bool:
    return file.name.lower().endswith(_OF_NOTES)


def partition_of(path: Path, key: str) -> str:
    """Returns the value of a key in folders such as ``machine=7``, as Hive and Spark write them; empty if none."""
    return next((part.partition("=")[2] for part in reversed(path.parts) if part.partition("=")[0] == key), "")
