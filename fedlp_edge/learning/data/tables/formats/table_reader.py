"""This module defines what is asked of a file of a table, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

PART_ROWS = 1 << 16
"""Rows that are read together."""


class TableReader(ABC):
    """Reads the columns of one file.

    Attributes:
        path: The file.
        columns: Names of all columns, in the order of the file.
        numbers: Names of those that hold numbers.
        nested: Names of those that hold lists or records.
        times: Names of those of which the file itself says that they hold points in time or durations.
        decimal: Decimal sign of numbers that are text.
        gaps: Words that stand for a gap among texts.
        guessed_encoding: Encoding that was guessed, since the file is no UTF-8; empty if it is certain.
        has_rows: Whether there are rows.
        line_of_units: Whether there are lines of units below the names of the columns.
        ends_within_a_line: Whether the last line has no end.
        headers: Lines that name the columns once more, of those that the last pass over the file has read.
        zeroed: Lines with zero bytes, which count as rows of gaps, likewise.
    """

    path: Path
    columns: tuple[str, ...]
    numbers: Set[str]
    nested: Set[str] = frozenset()
    times: Set[str] = frozenset()
    decimal: str = "."
    gaps: tuple[str, ...] = ()
    guessed_encoding: str = ""
    has_rows: bool = True
    line_of_units: bool = False
    ends_within_a_line: bool = False
    headers: int = 0
    zeroed: int = 0

    @property
    def header_place(self) -> str:
        """The line with the names of the columns, as ``:1``; empty if there is none."""
        return ""

    @property
    def unnamed(self) -> tuple[int, ...]:
        """Numbers, from 1, of the columns that hold values and have no name."""
        return ()

    @abstractmethod
    def frames(self, wanted: Sequence[str], texts: Set[str], times: Set[str]) -> Iterator[Any]:
        """Yields some columns as data frames of ``PART_ROWS`` rows at most.

        Args:
            wanted: Names of the columns.
            texts: Names of those that are wanted as texts without blanks at their ends, where a file holds only text.
            times: Names of those that are wanted as they stand, where a file holds only text.

        Raises:
            DataError: The file cannot be read, or has a row that does not fit its columns.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Returns where a row stands, for messages: file and line, or file and row."""

    def hint(self, name: str) -> str:  # noqa: ARG002 - of those that can tell
        """Returns what may be meant by a column that is not there; empty if nothing tells."""
        return ""

    def lists(self, columns: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - of those that have some
        """Returns those of some columns whose fields hold several numbers each."""
        return ()

    def units(self, columns: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002 - of those that have some
        """Returns a field of each of some columns of text that holds numbers with a unit, by column."""
        return {}
