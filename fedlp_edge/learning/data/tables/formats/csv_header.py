"""This module reads what stands above the rows of a CSV file: comments, names of columns, and their units."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.field_values import GAPS, NO_NUMBERS, is_number, point_number
from fedlp_edge.learning.data.tables.formats.csv_signs import find_delimiter, row_reader

_MAX_LINES_OF_UNITS = 2
_MIN_UNITS = 2


def without_comments(text: str, *, named: bool) -> tuple[int, str]:
    """Returns the number of comments above the names of the columns, lines that begin with ``#``, and the text below.

    InfluxDB annotates its exports so, and loggers tell who they are. If rows follow the last such line at once, it
    names the columns itself, as NumPy and some loggers write them, and stays, unless the columns are to go by numbers.
    """
    lines = list(io.StringIO(text, newline=""))
    comments = list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines))
    written = [number for number, line in enumerate(comments) if line.strip()]
    below = lines[len(comments) :]
    if not written or not below:
        return 0, text
    delimiter = find_delimiter("".join(below))
    around = (comments[written[-1]], *(*below, "")[:2])
    last, first, second = (next(row_reader([line], delimiter), []) for line in around)
    are_values = any(field[:1].isdigit() or is_number(field) for field in first if field)
    names_itself = len(last) == len(first) and (are_values or not any(is_number(field) for field in second if field))
    names_itself = names_itself and named
    count = written[-1] if names_itself else len(comments)
    return count, "".join(lines[count:])


def column_names(rows: Sequence[tuple[str, ...]], path: Path, line: int) -> tuple[str, ...]:
    """Returns the names in the first row of a file.

    Args:
        rows: First rows, as text.
        path: The file, for messages.
        line: Number of the line of the names.

    Raises:
        DataError: The row holds values, or two columns have one name.
    """
    fields = tuple(unicodedata.normalize("NFC", field) for field in rows[0])  # sites compare names
    numbers = [field for field in fields if field and is_number(field)]
    if len(numbers) == sum(map(bool, fields)) or _are_values(numbers):
        raise DataError(
            f"{path}:{line}: the first line holds numbers, not the names of the columns: add a line of names, or "
            "#header=no to the data, which calls them 1, 2 and so on"
        )
    if numbers and (again := _field_of_a_row(rows)):
        raise DataError(
            f"{path}:{line}: the first line holds numbers and {again!r}, which stands below it again, not the names of "
            "the columns: add a line of names, or #header=no to the data, which calls them 1, 2 and so on"
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(fields, 1):
        if name and (first := seen.setdefault(name, number)) < number:
            raise DataError(f"{path}:{line}: columns {first} and {number} are both called {name!r}: rename one")
    return fields


def column_numbers(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the numbers of columns as their names; a column that delimiters at the ends of lines make has none."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    filled = max((number for row in rows for number, field in enumerate(row[:width], 1) if field), default=0)
    return tuple(str(number) if number <= filled else "" for number in range(1, width + 1))


def is_header(row: Sequence[str], columns: Sequence[str]) -> bool:
    """Tells whether a row names the columns once more.

    Loggers write the names at every start, and files that were joined have them in the middle.
    """
    return (
        len(row) == len(columns)
        and unicodedata.normalize("NFC", row[0].strip().removeprefix("\ufeff")) == columns[0]
        and all(
            unicodedata.normalize("NFC", field.strip()) == name
            for field, name in zip(row[1:], columns[1:], strict=True)
        )
    )


def count_lines_of_units(rows: Sequence[tuple[str, ...]]) -> int:
    """Returns the number of rows below the names that hold units or kinds of values, as data loggers write them.

    No column of numbers holds a number there, and two at least hold a word: a single one may be a mistake.
    """
    rest = rows[1 + _MAX_LINES_OF_UNITS :]
    gaps = frozenset((*GAPS, *NO_NUMBERS))
    numeric = []
    for column in range(len(rows[0])):
        fields = [row[column] for row in rest if column < len(row) and row[column] not in gaps]
        if fields and all(map(is_number, fields)):
            numeric.append(column)
    count = 0
    for row in rows[1 : 1 + _MAX_LINES_OF_UNITS]:
        fields = [row[column] for column in numeric if column < len(row) and row[column] not in gaps]
        if len(fields) < _MIN_UNITS or any(map(is_number, fields)):
            break
        count += 1
    return count


def _field_of_a_row(rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a word of the first line that its column holds below as well, as names do not; empty if there is none."""
    first = rows[0]
    below = [row for row in rows[1:] if not is_header(row, first)]
    for number, field in enumerate(first):
        if field and not is_number(field) and any(number < len(row) and row[number] == field for row in below):
            return field
    return ""


def _are_values(fields: list[str]) -> bool:
    """Tells whether numbers in the first line are a row of values: fractions that neither rise nor fall throughout.

    Columns may be called by numbers, as of pixels, channels or wavelengths.
    """
    texts = [point_number(field, "." if "." in field else ",") for field in fields]
    if len(texts) < 2 or not any("." in text for text in texts):
        return False
    values = [1.0 if text.lower() == "true" else 0.0 if text.lower() == "false" else float(text) for text in texts]
    rising = [second > first for first, second in itertools.pairwise(values)]
    return not all(rising) and (any(rising) or len(rising) == 1)
