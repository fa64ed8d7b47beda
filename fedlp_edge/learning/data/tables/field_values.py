"""This module tells what a field of a table holds: a number, in one of the ways in which they are written, or a gap."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GROUP_SIGNS = " '\u2019\u00a0\u2009\u202f"  # between groups of three digits, beside the point and the comma
COMMA_NUMBER = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
POINT_NUMBER = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")
GROUPED_NUMBER = re.compile(rf"([-+]?\d{{1,3}})(([.,{_GROUP_SIGNS}])\d{{3}}(?:\3\d{{3}})*)(?:(?!\3)([.,])(\d+))?")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
SWITCHES = {"yes": 1.0, "no": 0.0, "on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}
"""Words, in lower case, that are 1 and 0 in a column that is named as one of numbers and holds nothing else."""

GAPS = (
    *("", "-", "?", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan", "NULL", "null", "None"),
    *("#N/A", "#N/A N/A", "#NA", "#NV", "#DIV/0!", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Fields without a value."""

_WORDS_OF_GAPS = ("missing", "unavailable", "unknown", "none", "null", "nil", "na", "nan", "no data", "nodata")
NO_NUMBERS = (
    *("--", "---", "n.a.", "N.A.", "#VALUE!", "#REF!", "#NUM!", "#NAME?"),
    *(written for word in _WORDS_OF_GAPS for written in (word, word.upper(), word.capitalize())),
)
"""Words that are gaps in a column of numbers, and may be classes in others."""

_MINUS = "\u2212"  # as typeset text and some locales of spreadsheets have it

_NUMBER_WITH_UNIT = re.compile(
    r"(?P<before>[$€£¥₹]|[A-Z]{3}(?= )|)\s*"
    r"[-+\u2212]?\d[\d.,'\u2019\u00a0\u202f]*\s*"
    r"(?P<behind>[^\W\d_]{1,6}[²³]?(/[^\W\d_]{1,4}[²³]?)?|[%‰°$€£¥₹][CF]?|;|)"
)
_MAX_UNITS = 3


def is_number(text: str) -> bool:
    """Tells whether a field is a number or a truth value, with either decimal sign."""
    text = text.replace(_MINUS, "-")
    return (
        _NUMBER.fullmatch(text) is not None
        or GROUPED_NUMBER.fullmatch(text) is not None
        or text.lower() in ("true", "false", "nan", "inf", "-inf")
    )


def number_with_unit(fields: Sequence[str]) -> str:
    """Returns the first of some fields if all are numbers with one of a few units or currencies; empty otherwise.

    Such a column is not read as numbers: on another device, or further down, it may have another unit.
    """
    found = [_NUMBER_WITH_UNIT.fullmatch(field) for field in fields]
    units = {(match["before"], match["behind"]) for match in found if match is not None}
    sure = bool(found) and None not in found and len(units) <= _MAX_UNITS and ("", "") not in units
    return fields[0] if sure else ""


def point_number(text: str, decimal: str) -> str:
    """Returns a number as Python reads it: with a point, and no signs between groups of digits; other text as it is.

    Args:
        text: A field without blanks at its ends.
        decimal: Decimal sign of the file, a point or a comma. The other of the two stands between groups of digits.
    """
    text = text.replace(_MINUS, "-")
    grouped = GROUPED_NUMBER.fullmatch(text)
    if grouped is not None and (grouped[3] != decimal or grouped[4]):
        return grouped[1] + grouped[2].replace(grouped[3], "") + (f".{grouped[5]}" if grouped[4] else "")
    return text.replace(",", ".") if decimal == "," and _NUMBER.fullmatch(text) else text
