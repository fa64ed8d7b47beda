"""What a format says of its files if it has nothing to say itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pytest

from fedlp_edge.learning.data.tables.formats.table_reader import TableReader


class OfNumbers(TableReader):
    """A format in which every field is a number and has its name."""

    path = Path("numbers")
    columns = ("a", "b")
    numbers = frozenset(columns)

    def frames(self, wanted: Sequence[str], texts: Set[str], times: Set[str]) -> Iterator[Any]:
        assert not texts | times
        yield {name: [1, 2] for name in wanted}

    def place(self, row: int) -> str:
        return f"{self.path}: row {row}"


def test_a_format_with_types_has_nothing_to_guess() -> None:
    table = OfNumbers()
    assert (table.hint("c"), table.header_place, table.guessed_encoding) == ("", "", "")
    assert (table.unnamed, table.lists(("a", "b")), table.units(("a", "b"))) == ((), (), {})
    assert (table.nested, table.times, table.gaps) == (frozenset(), frozenset(), ())
    assert (table.has_rows, table.headers, table.zeroed) == (True, 0, 0)


def test_a_format_must_read_rows_and_tell_their_place() -> None:
    with pytest.raises(TypeError, match=r"abstract methods? .*frames.*place"):
        TableReader()  # type: ignore[abstract]
