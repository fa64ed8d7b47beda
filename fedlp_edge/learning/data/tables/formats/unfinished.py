"""This module tells which files of tables have no end: they are being written, or their writer was killed.

Who logs into Parquet or compressed files closes each when it is full, so that a folder of them nearly always holds one
without its end, of which nothing, or only a part, can be read.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from fedlp_edge.learning.data.tables.formats.text_file import UNREADABLE, is_compressed

_PARQUET = b"PAR1"
_CHUNK = 1 << 20
_ALWAYS_LEFT_OUT = 3
_SHARE_LEFT_OUT = 5
"""A folder may lack the ends of three files, or of one in five; beyond that something else is wrong."""


def unfinished_files(paths: Sequence[Path]) -> list[Path]:
    """Returns the files of a folder that have no end, if the others can do without them.

    Args:
        paths: Files of the folder that hold anything.
    """
    if len(paths) < 2:  # a table alone must have its end, so there is no need to look for it
        return []
    found = [path for path in paths if _has_no_end(path)]
    few = len(found) <= max(_ALWAYS_LEFT_OUT, len(paths) // _SHARE_LEFT_OUT)
    return found if few and len(found) < len(paths) else []


def _has_no_end(path: Path) -> bool:
    try:
        return _is_cut_parquet(path) or (is_compressed(path) and _is_cut_gzip(path))
    except OSError:  # said where it is read
        return False


def _is_cut_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) != _PARQUET:
            return False
        file.seek(-len(_PARQUET), 2)
        return file.tell() < len(_PARQUET) or file.read() != _PARQUET


def _is_cut_gzip(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            while file.read(_CHUNK):
                pass
    except EOFError:
        return True
    except UNREADABLE:  # damaged in another way, which is said where it is read
        return False
    return False
