"""This module writes a parsed TOML document as text, for copies without secrets. Comments are lost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec


def to_toml(document: Mapping[str, object] | msgspec.Struct) -> str:
    """Returns the TOML text of a document or of settings; keys whose value is None are left out."""
    table = msgspec.to_builtins(document) if isinstance(document, msgspec.Struct) else document
    return "\n".join(_table(table, ())) + "\n"


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    given = {key: value for key, value in table.items() if value is not None}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in given.items() if not isinstance(value, Mapping)]
    for key, value in given.items():
        if isinstance(value, Mapping):
            inner = (*path, key)
            lines += ["", f"[{'.'.join(map(_key, inner))}]", *_table(value, inner)]
    return lines


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case Mapping():
            given = {key: item for key, item in value.items() if item is not None}
            return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in given.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    # TOML has JSON's escapes, but also demands one for DEL, which JSON does not escape.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
