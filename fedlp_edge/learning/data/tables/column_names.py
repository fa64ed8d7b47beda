"""This module finds the column that a person means by a name that no column has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def column_hint(name: str, columns: Sequence[str]) -> str:
    """Returns the question whether a similar column is meant; empty if there is none.

    Args:
        name: Name that no column has.
        columns: Names of the columns that are there.
    """
    same = [column for column in columns if column.casefold() == name.casefold()]
    near = same or difflib.get_close_matches(name, columns, 1)
    return f": is it {near[0]!r}?" if near else ""
