"""Which column is meant by a name that none has."""

from __future__ import annotations

import pytest

from fedlp_edge.learning.data.tables.column_names import column_hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a", ": is it 'A'?"), ("stat", ": is it 'State'?"), ("pressure", "")],
)
def test_the_column_in_other_capitals_is_meant_or_else_a_similar_one(name: str, hint: str) -> None:
    assert column_hint(name, ("B", "A", "State")) == hint
