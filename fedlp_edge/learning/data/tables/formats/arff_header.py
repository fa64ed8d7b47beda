"""This module reads the header of an ARFF file, as Weka and OpenML write them, which names each column in a line.

The rows below it are those of a CSV file with single quotes.
"""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.errors import DataError

QUOTE = "'"
"""Quote around names and values that hold blanks or commas."""

_START = re.compile(r"@relation\b", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"@attribute\s+('(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<bare>\S+))\s+\S", re.IGNORECASE)
_DATA = re.compile(r"@data\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ArffHeader:
    """The header of an ARFF file.

    Attributes:
        columns: Names of the columns.
        lines: Number of lines before the first row.
        below: Text below them.
    """

    columns: tuple[str, ...]
    lines: int
    below: str


def arff_header(text: str, path: Path) -> ArffHeader | None:
    """Reads the header at the beginning of a file; None if it has none.

    Args:
        text: Beginning of the file.
        path: The file, for messages.

    Raises:
        DataError: The header has no end, or the rows below it name the columns of their values.
    """
    columns: list[str] = []
    begun = False
    lines = io.StringIO(text)
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("%"):
            continue
        if not begun:
            if not _START.match(entry):
                return None
            begun = True
        elif (found := _ATTRIBUTE.match(entry)) is not None:
            name = found["single"] or found["double"] or found["bare"]
            columns.append(unicodedata.normalize("NFC", name.strip()))
        elif _DATA.match(entry):
            below = lines.read()
            if below.lstrip().startswith("{"):
                raise DataError(f"{path} is a sparse ARFF file: save it with a value for each column, or as CSV")
            return ArffHeader(tuple(columns), number, below)
        else:
            raise DataError(f"{path}:{number}: this line of an ARFF header is neither @attribute nor @data: mend it")
    if begun:
        raise DataError(f"{path} is an ARFF file without @data: it is cut short")
    return None
