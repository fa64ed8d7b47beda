"""This module reads records in JSON, one a line or a list of them, as columns of a table.

``mosquitto_sub -F %J``, Telegraf, and pandas with ``orient="records"`` write such files. A value in an object inside a
record becomes a column ``object.value``.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.field_values import GAPS, NO_NUMBERS, is_number
from fedlp_edge.learning.data.tables.formats.table_reader import PART_ROWS, TableReader
from fedlp_edge.learning.data.tables.formats.text_file import UNREADABLE, unreadable

Record = dict[str, Any]

_FIRST_RECORDS = 1000
_LEAF = ("users", "user_data")
_MAX_DEPTH = 8


class JsonTable(TableReader):
    """Reads one file of records.

    The columns are those of the first records, and columns of numbers those of which most values there are numbers.

    Args:
        path: The file, compressed by gzip or not.
        gap_words: Words that stand for a gap besides the usual ones.

    Raises:
        DataError: The file cannot be read, or holds something else than records.
    """

    gaps = GAPS

    def __init__(self, path: Path, gap_words: Sequence[str] = ()) -> None:
        self.path = path
        self._no_numbers = frozenset((*GAPS, *NO_NUMBERS, *gap_words))
        self._is_list = _begins_with_list(path)
        first = [record for _, record in itertools.islice(self.records(), _FIRST_RECORDS)]
        self.columns = tuple(dict.fromkeys(name for record in first for name in record))
        self.has_rows = bool(self.columns)
        values = {name: [value for r in first if (value := r.get(name)) is not None] for name in self.columns}
        self.nested = {name for name in self.columns if any(isinstance(value, list) for value in values[name])}
        self.numbers = {name for name in self.columns if name not in self.nested and self._are_numbers(values[name])}

    def frames(self, wanted: Sequence[str], texts: Set[str], times: Set[str]) -> Iterator[Any]:  # noqa: ARG002 - typed
        """Yields some columns as data frames, with None for gaps.

        Raises:
            DataError: The file cannot be read, or a line is no record.
        """
        import pandas  # noqa: PLC0415 - an extra

        gaps = {name: self._no_numbers if name in self.numbers else frozenset(GAPS) for name in wanted}
        records = (record for _, record in self.records())
        while part := list(itertools.islice(records, PART_ROWS)):
            yield pandas.DataFrame({name: [_value(record.get(name), gaps[name]) for record in part] for name in wanted})

    def place(self, row: int) -> str:
        """Returns file and line of a record; in a list, which has no lines, its number from 0."""
        if self._is_list:
            return f"{self.path}: row {row}"
        return f"{self.path}:{next((line for number, (line, _) in enumerate(self.records()) if number == row), 0)}"

    def lists(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Returns those of some columns that hold lists."""
        return tuple(name for name in columns if name in self.nested)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yields the records, each with the number of its line or, in a list, its own.

        A line with zero bytes is a record of gaps.

        Raises:
            DataError: The file cannot be read, or a line is no record.
        """
        try:
            with _opened(self.path) as file:
                if self._is_list:
                    yield from self._listed(file.read())
                    return
                for line, text in enumerate(file, 1):
                    text = text.removeprefix(codecs.BOM_UTF8) if line == 1 else text  # noqa: PLW2901 - the same line
                    if b"\0" in text:  # as a power cut leaves what was not written
                        yield line, {}
                    elif text.strip():
                        if (record := self._record(text, line)) is None:
                            return
                        yield line, record
        except UNREADABLE as error:
            raise DataError(unreadable(self.path, error)) from None

    def _are_numbers(self, values: list[Any]) -> bool:
        """Tells whether most of the values that are there, or all of none, are numbers, also in quotes."""
        there = [value for value in values if not (isinstance(value, str) and value.strip() in self._no_numbers)]
        numbers = sum(isinstance(v, int | float) or (isinstance(v, str) and is_number(v.strip())) for v in there)
        return 2 * numbers >= len(there)

    def _record(self, text: bytes, line: int) -> Record | None:
        """Returns the record on a line; None for the beginning of one that is being written at the end of the file."""
        try:
            value = _decoded(text)
        except ValueError:
            if not text.endswith(b"\n"):
                return None
            hint = "; a record takes one line" if line == 1 else ""
            raise DataError(f"{self.path}:{line}: this line is no JSON{hint}: mend it, or remove it") from None
        return self._flat(value, f"{self.path}:{line}")

    def _listed(self, content: bytes) -> Iterator[tuple[int, Record]]:
        try:
            values = _decoded(content)
        except ValueError as error:
            raise DataError(f"{self.path} is no JSON, or it is cut short: {error}") from None
        for number, value in enumerate(values, 1):
            yield number, self._flat(value, f"{self.path}: record {number}")

    def _flat(self, value: object, place: str) -> Record:
        if not isinstance(value, dict):
            raise DataError(f"{place}: {type(value).__name__} is no record: it needs an object with names and values")
        if all(key in value for key in _LEAF):
            raise DataError(
                f"{self.path} is LEAF's JSON, with the samples of many users in one object: write a function that "
                "returns them (docs/data.md has it)"
            )
        return (
            value if not any(isinstance(v, dict) for v in value.values()) else dict(_flattened(value, "", _MAX_DEPTH))
        )


def _flattened(record: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and depth:
            yield from _flattened(value, f"{before}{name}.", depth - 1)
        else:
            yield f"{before}{name}", value


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):  # NaN, which Python writes and JSON does not have
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _value(value: Any, gaps: frozenset[str]) -> Any:
    if isinstance(value, str):
        value = value.strip()
        return None if value in gaps else value
    return None if isinstance(value, list | dict) else value


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def _begins_with_list(path: Path) -> bool:
    """Tells whether a file holds one list, whose records may take many lines."""
    try:
        with _opened(path) as file:
            return file.read(io.DEFAULT_BUFFER_SIZE).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None
