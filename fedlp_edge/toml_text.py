"""Settings written as TOML, so that what a program was given can be kept where a person would look for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec


def to_toml(settings: msgspec.Struct) -> str:
    """A struct of plain values, lists and tables; what is None is left out."""
    return "\n".join(_table(msgspec.to_builtins(settings), ())).lstrip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = ["", f"[{'.'.join(path)}]"] if path else []
    given = {_key(key): value for key, value in values.items() if value is not None}
    lines += [f"{key} = {_value(value)}" for key, value in given.items() if not isinstance(value, Mapping)]
    for key, value in given.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    # TOML writes text, numbers and truth values as JSON does.
    return json.dumps(value)
