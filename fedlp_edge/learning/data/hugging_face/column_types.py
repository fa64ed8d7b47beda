"""This module tells what the columns of a stored data set hold.

The ``datasets`` library writes what it knows of its columns, such as the names of the classes, into the schema of every
file. Without that, Arrow's types tell as much as they can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow

ColumnKind = Literal["picture", "sound", "class", "classes", "number", "array", "text", "other"]

_BY_FEATURE: dict[str, ColumnKind] = {"Image": "picture", "Audio": "sound", "ClassLabel": "class"}
_LISTS = ("Sequence", "List", "LargeList")


@dataclass(frozen=True, slots=True)
class Column:
    """Describes a column.

    Attributes:
        name: Name of the column.
        kind: What a field holds: an encoded picture or sound, the number of a class, a list of such numbers, a number,
            an array of numbers, a text, or something else.
        classes: Names of the classes by number; empty if they have none.
    """

    name: str
    kind: ColumnKind
    classes: tuple[str, ...] = ()


def columns_of(schema: pyarrow.Schema) -> dict[str, Column]:
    """Describes the columns of a file, by name and in their order."""
    features = _features(schema.metadata or {})
    found = {}
    for field in schema:
        kind, feature = _of_feature(features.get(field.name))
        names = feature.get("names", ()) if kind in ("class", "classes") else ()
        found[field.name] = Column(
            field.name,
            kind or _of_type(field.type),
            tuple(map(str, names)) if isinstance(names, list) else (),
        )
    return found


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _of_feature(feature: Any) -> tuple[ColumnKind | None, Mapping[str, Any]]:
    """Returns the kind that a feature tells, and the feature that names the classes."""
    inner = feature[0] if isinstance(feature, list) and feature else None
    if isinstance(feature, dict) and feature.get("_type") in _LISTS:
        inner = feature.get("feature")
    if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
        return "classes", inner
    if not isinstance(feature, dict):
        return None, {}
    return _BY_FEATURE.get(feature.get("_type", "")), feature


def _of_type(type: pyarrow.DataType) -> ColumnKind:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = pa.types
    if isinstance(type, pa.BaseExtensionType):
        type = type.storage_type
    if types.is_struct(type) and type.get_field_index("bytes") >= 0:
        return "picture"
    if _is_binary(type):
        return "picture"
    depth = 0
    while types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type):
        type, depth = type.value_type, depth + 1
    if types.is_integer(type) or types.is_floating(type) or types.is_boolean(type):
        return "array" if depth else "number"
    if types.is_dictionary(type):
        type = type.value_type
    return "text" if not depth and (types.is_string(type) or types.is_large_string(type)) else "other"


def _is_binary(type: pyarrow.DataType) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type))
