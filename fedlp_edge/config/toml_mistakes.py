"""This module knows the mistakes that people and editors often make in a TOML file, each with what to write instead.

A parser says where it no longer understands a file, and not why: typographic quotes come from word processors, blanks
that are none from web pages, and text without quotes from YAML and INI files.
"""

from __future__ import annotations

import re
import unicodedata

_OF_LINES = (
    ("\x00", "zero bytes, as a power cut leaves them: write the file again"),
    ("[\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb\u2039\u203a\u0060\u00b4\uff02]", 'write " as quotes'),
    ("[\u00a0\u2000-\u200a\u202f\u205f\u3000]", "a no-break space: type an ordinary one"),
    ("[\u00ad\u200b-\u200f\u2060\ufeff]", "an invisible character: type the line again"),
    (r"\\", "write a path with /, or in single quotes"),
    (r"^\s*(;|//|--|%)", "comments begin with #"),
    (r"=\s*(True|False|yes|no|on|off)\s*$", "truth values are true and false"),
    (r"=\s*(?i:none|null|nil)\s*$", "leave the line out where there is no value"),
    (r"=\s*[+-]?\d+,\d+\s*$", "a decimal point, no comma"),
    (r"^\s*([\w-]+\s*:|\{)", "TOML has key = value in lines of their own, unlike YAML and JSON"),
    (r"=\s*[^\W\d][^\"'\[{]*$", "text stands in quotes"),
    (r"[;,]\s*$", "nothing stands behind a value"),
)
"""Patterns of lines that are no TOML, each with what to do; the first one counts."""


def syntax_hint(what: str, line: str) -> str:
    """Returns what to do about a mistake that is made often, in brackets; empty if it is none of these.

    Args:
        what: What the parser says.
        line: The line of which it says so.
    """
    if "overwrite a value" in what:
        return " (the key stands twice: remove one)"
    if "twice" in what:
        return " (put all its keys under one heading)"
    return next((f" ({remedy})" for pattern, remedy in _OF_LINES if re.search(pattern, line)), "")


def look_alike(text: str) -> str:
    """Returns what the first letter or sign that is no ASCII is called; empty if there is none.

    Of a name that may hold ASCII alone: a Cyrillic letter and a dash of a word processor look as what is allowed.
    """
    odd = next((sign for sign in text if sign > "\x7f"), "")
    name = unicodedata.name(odd, "").lower() if odd else ""
    return f"{odd} is a {name}" if odd and odd.isprintable() and name else ""
