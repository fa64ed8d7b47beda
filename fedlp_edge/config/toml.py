"""This module reads a TOML file into a validated struct, or raises one line that says what to fix and where.

The structs define the rules (types, ranges, allowed words); this module turns a violation into the message
``FILE:LINE: what is wrong; what is allowed``, so that all services have the same messages.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from fedlp_edge.config.toml_mistakes import look_alike, syntax_hint
from fedlp_edge.errors import ConfigError
from fedlp_edge.system.portable.edited_text import encoding_hint
from fedlp_edge.system.printable import printable

T = TypeVar("T")
KeyPath = tuple[str | int, ...]
Document = dict[str, Any]

_NONE_RENAMED: Mapping[tuple[str, ...], str] = {}

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_NAMED = re.compile(r"\[(?P<table>[a-z_.]+)\] (?P<key>[a-z_]+)")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")
_SECRETS = ("password",)
"""Keys whose values stand in no message, which may end in a log."""

_LOGIN = re.compile(r"://[^/\s]*@")
"""A login in a URL, as in ``broker = "mqtt://ada:secret@host"``, which stands where a table is asked for."""

_SYNTAX = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$", re.DOTALL)


def load_toml(
    path: Path,
    kind: type[T],
    complete: Callable[[Document], Document] | None = None,
    renamed: Mapping[tuple[str, ...], str] = _NONE_RENAMED,
) -> T:
    """Reads one TOML file into a struct.

    Args:
        path: TOML file.
        kind: Msgspec struct type, whose ``forbid_unknown_fields`` decides about unknown keys.
        complete: Function that expands the document before it is checked, such as ``with_recipe``.
        renamed: New names of keys and tables, by the path of the old ones, which the file must not have.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has a wrong key or value; one line with the file and,
            where there is one, the line number.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if encoding := encoding_hint(content):
        raise ConfigError(f"{path}: it was saved as {encoding}; save the file as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from None
    return parse_toml(text, kind, str(path), complete, renamed)


def parse_toml(
    text: str,
    kind: type[T],
    name: str,
    complete: Callable[[Document], Document] | None = None,
    renamed: Mapping[tuple[str, ...], str] = _NONE_RENAMED,
) -> T:
    """Reads TOML text into a struct as ``load_toml`` does; ``name`` is the file name in messages.

    Raises:
        ConfigError: The text is not TOML, or has a wrong key or value.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(error, text, name)) from None
    for path, number in _not_finite(document, ()):
        raise ConfigError(f"{name}:{_line_of(text, path)}: {_dotted(path)} is {number}; use a finite number")
    if old := [path for path in renamed if _value_at(document, path) is not None]:
        line, first = min((_line_of(text, path), path) for path in old)
        shown = f"[{_dotted(first)}]" if isinstance(_value_at(document, first), dict) else _in_table(first)
        raise ConfigError(f"{name}:{line}: {shown} is now {renamed[first]}")
    try:
        document = complete(document) if complete is not None else document
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_value_message(error, document, kind, text, name)) from None


def check_option(value: object, kind: Any, option: str) -> Any:
    """Returns the value of an option of the command line, if it is of a type that a file could have it in.

    Args:
        value: Value of the option.
        kind: Type with its limits, such as ``Encoding``.
        option: Name of the option, for the message.

    Raises:
        ConfigError: The value is not allowed.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ConfigError(f"{option} {value}: it must be {describe(inspect.type_info(kind))}") from None


def place(path: Path, key: KeyPath) -> str:
    """Returns the place of a key, as ``FILE:LINE: [table] key``; without a line if the file does not set it."""
    words = _in_table(key)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        stated = _value_at(tomllib.loads(text), key) is not None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        stated = False
    return f"{path}:{_line_of(text, key)}: {words}" if stated else f"{path}: {words}"


def _syntax_message(error: tomllib.TOMLDecodeError, text: str, name: str) -> str:
    match = _SYNTAX.match(str(error))
    what = match["what"] if match else str(error)
    line = int(match["line"]) if match and match["line"] else max(1, len(text.splitlines()))
    lines = text.splitlines()
    hint = syntax_hint(what, lines[line - 1] if line <= len(lines) else "")
    return f"{name}:{line}: not valid TOML: {what[0].lower()}{what[1:]}{hint}"


def _value_message(error: msgspec.ValidationError, document: object, kind: type, text: str, name: str) -> str:
    match = _AT.match(str(error))
    what, raw = (match["what"], match["path"] or "") if match else (str(error), "")
    path, whole = _steps(raw)
    where = f"{name}:{_line_of(text, path)}" if path else name
    if not path and (named := _stated_key(what, document)):
        return f"{name}:{_line_of(text, named)}: {what}"
    if not whole or not (path or what.startswith("Object")):
        # Inside a table of free keys, or a check of the whole file, there is only msgspec's own message.
        return f"{where}: {_dotted(path) + ': ' if path else ''}{what}"

    known = _chosen(_type_at(inspect.type_info(kind), path), _value_at(document, path))
    if unknown := _UNKNOWN.match(what):
        key = unknown["name"]
        allowed = [field.encode_name for field in known.fields] if isinstance(known, inspect.StructType) else []
        close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
        hint = _other_table(key, inspect.type_info(kind), path)
        hint = hint or (f'did you mean "{close[0]}"?' if close else f"allowed: {', '.join(allowed)}")
        return f'{name}:{_line_of(text, (*path, key))}: unknown key "{key}"{_within(path)}; {hint}'
    if missing := _MISSING.match(what):
        return f'{where}: the key "{missing["name"]}"{_within(path)} is missing; add it'
    if what.startswith(("Expected", "Invalid")) and known is not None:
        return _wrong_value(path, known, _value_at(document, path), text, name)
    # The message of a struct's own check (``__post_init__``) is complete; it names the keys that do not go together.
    stated = _value_at(document, path)
    key = next((word for word in re.findall(r"\w+", what) if isinstance(stated, dict) and word in stated), None)
    return f"{name}:{_line_of(text, (*path, key) if key else path)}: {_dotted(path)}: {what}"


def _wrong_value(path: KeyPath, kind: inspect.Type, stated: object, text: str, name: str) -> str:
    if isinstance(kind, inspect.DictType) and isinstance(stated, dict):
        of_key = kind.key_type.type if isinstance(kind.key_type, inspect.Metadata) else kind.key_type
        pattern = (isinstance(of_key, inspect.StrType) and of_key.pattern) or ""
        key = next((key for key in stated if not re.search(pattern, key)), "")
        where, allowed = f"{name}:{_line_of(text, (*path, key))}", describe(kind.key_type)
        return f"{where}: {_dotted(path)} has the key {_shown(key)}; it must be {allowed}"
    where = f"{name}:{_line_of(text, path)}" if path else name
    shown = "no text" if path and path[-1] in _SECRETS else _shown(stated)
    odd = look_alike(stated) if isinstance(stated, str) and _has_a_pattern(kind) else ""
    return f"{where}: {_dotted(path)} is {shown}; it must be {describe(kind)}{f' ({odd})' if odd else ''}"


def _has_a_pattern(kind: inspect.Type) -> bool:
    options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    plain = (option.type if isinstance(option, inspect.Metadata) else option for option in options)
    return any(isinstance(option, inspect.StrType) and option.pattern for option in plain)


def _other_table(key: str, kind: inspect.Type, path: KeyPath) -> str:
    """Returns where a key belongs that stands in a wrong table; empty if no table of the file has such a key."""
    top = kind.fields if isinstance(kind, inspect.StructType) else ()
    if path and any(field.encode_name == key for field in top):
        return "it belongs above the first [table]: what stands below a heading is part of that table"
    tables = ((field.encode_name, _type_at(kind, (field.encode_name,))) for field in top)
    right = [
        f"[{name}]"
        for name, table in tables
        if isinstance(table, inspect.StructType) and any(inner.encode_name == key for inner in table.fields)
    ]
    return f"it belongs into {' or '.join(right)}" if right else ""


def _stated_key(what: str, document: object) -> KeyPath | None:
    """Returns the first key that a check of the whole file names, as ``[table] key``, and that the file has."""
    named = ((*match["table"].split("."), match["key"]) for match in _NAMED.finditer(what))
    return next((path for path in named if _value_at(document, path) is not None), None)


def describe(kind: inspect.Type) -> str:  # noqa: PLR0911 - one return a kind of value
    """Returns a description of the allowed values of a type."""
    match kind:
        case inspect.UnionType(types=types) if (tag := _tag_field(types)) is not None:
            return f"a table with the key {tag}, which says what else it has"
        case inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case inspect.UnionType(types=types):
            return " or ".join(describe(t) for t in types if not isinstance(t, inspect.NoneType))
        case inspect.LiteralType(values=values):
            return " or ".join(_shown(v) for v in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            return noun + _bounds(kind)
        case inspect.StrType(pattern=pattern):
            return f'text in quotes matching "{pattern}"' if pattern else "text in quotes"
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"a list in which each item is {describe(item)}"
        case inspect.DictType(value_type=value):
            return f"a table in which each value is {describe(value)}"
        case inspect.StructType(fields=fields):
            return f"a table with the keys {', '.join(f.encode_name for f in fields)}"
        case _:
            return f"of type {type(kind).__name__.removesuffix('Type').lower()}"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    parts = []
    if low is not None:
        parts.append(f"at least {low:g}" if kind.ge is not None else f"greater than {low:g}")
    if high is not None:
        parts.append(f"at most {high:g}" if kind.le is not None else f"less than {high:g}")
    return f" ({', '.join(parts)})" if parts else ""


def _steps(path: str) -> tuple[KeyPath, bool]:
    """Parses ``.rounds.count[2]`` into ``("rounds", "count", 2)``, and returns whether that is the whole path.

    msgspec hides the keys of a table with free keys behind ``[...]``; the path ends before it.
    """
    steps: list[str | int] = []
    for match in _STEP.finditer(path):
        if match["name"] is not None:
            steps.append(match["name"])
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            return tuple(steps), False
    return tuple(steps), True


def _type_at(kind: inspect.Type, path: KeyPath) -> inspect.Type | None:
    current: inspect.Type | None = kind
    for step in path:
        options = current.types if isinstance(current, inspect.UnionType) else (current,)
        if tags := tuple(t.tag for t in options if isinstance(t, inspect.StructType) and t.tag_field == step):
            current = inspect.LiteralType(tags)
            continue
        current = next((found for option in options if (found := _child(option, step)) is not None), None)
    if isinstance(current, inspect.UnionType):
        structs = [t for t in current.types if isinstance(t, inspect.StructType)]
        return structs[0] if len(structs) == 1 else current
    return current


def _tag_field(options: Iterable[inspect.Type]) -> str | None:
    """Returns the key by which several kinds of tables are told apart; None if there is none."""
    return next((t.tag_field for t in options if isinstance(t, inspect.StructType) and t.tag_field), None)


def _chosen(kind: inspect.Type | None, value: object) -> inspect.Type | None:
    """Returns the kind of a table that its tag names, of all kinds that the table could be."""
    if not isinstance(kind, inspect.UnionType) or not isinstance(value, dict):
        return kind
    structs = (t for t in kind.types if isinstance(t, inspect.StructType) and t.tag_field)
    return next((t for t in structs if t.tag == value.get(str(t.tag_field))), kind)


def _child(kind: inspect.Type | None, step: str | int) -> inspect.Type | None:
    match kind:
        case inspect.StructType(fields=fields):
            return next((f.type for f in fields if f.encode_name == step), None)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return item
        case inspect.TupleType(item_types=items) if isinstance(step, int) and step < len(items):
            return items[step]
        case inspect.DictType(value_type=value):
            return value
        case _:
            return None


def _value_at(document: object, path: KeyPath) -> object:
    """Returns the value at a path; None if it is missing."""
    current = document
    for step in path:
        try:
            current = current[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return current


def _line_of(text: str, path: KeyPath) -> int:
    """Returns the line on which the statement begins that sets ``path``.

    It needs no scanner: a prefix of the lines either parses or ends inside a multi-line value, so the statement begins
    right after the last shorter prefix that parsed.
    """
    lines = text.splitlines()
    begin = 1
    for count in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _value_at(document, path) is not None:
            return begin
        begin = count + 1
    return 1


def _not_finite(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, value


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _in_table(key: KeyPath) -> str:
    *tables, name = key
    return f"[{_dotted(tuple(tables))}] {name}" if tables else str(name)


def _within(path: KeyPath) -> str:
    return f" in [{_dotted(path)}]" if path else ""


def _shown(value: object) -> str:
    """Returns a value as TOML would write it, cut to 60 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{printable(_LOGIN.sub("://***@", value)[:60])}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    return str(value)[:60]
