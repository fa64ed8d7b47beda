"""Numbers are told from other text however they are written."""

from __future__ import annotations

import pytest

from fedlp_edge.learning.data.tables.field_values import is_number, number_with_unit, point_number


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("1.234,5", ",", "1234.5"),
        ("8.600", ",", "8600"),
        ("8.600", ".", "8.600"),
        ("1,234,567", ".", "1234567"),
        ("1,234.5", ".", "1234.5"),
        ("1\u202f234,5", ",", "1234.5"),
        ("1'234.5", ".", "1234.5"),
        ("\u22121,5", ",", "-1.5"),
        ("1,5", ".", "1,5"),
        ("low, high", ",", "low, high"),
    ],
)
def test_numbers_of_any_locale_are_read(text: str, decimal: str, number: str) -> None:
    assert point_number(text, decimal) == number


@pytest.mark.parametrize(("text", "number"), [("1,5", True), ("-2e3", True), ("TRUE", True), ("1.2.3", False)])
def test_numbers_are_told_with_either_decimal_sign(text: str, number: bool) -> None:
    assert is_number(text) == number


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        (["21.5 °C", "22 °C"], "21.5 °C"),
        (["$5", "$6.50"], "$5"),
        (["5 km", "6"], ""),
        (["5", "6"], ""),
        (["5 km", "far"], ""),
        ([], ""),
    ],
)
def test_numbers_with_units_are_named_by_their_first(fields: list[str], first: str) -> None:
    assert number_with_unit(fields) == first
