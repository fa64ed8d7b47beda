"""Tests of telling what the columns of stored data sets hold."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fedlp_edge.learning.data.hugging_face.column_types import Column, columns_of
from tests.learning.data.hugging_face.parquet_datasets import class_label, table

LABELS = class_label("cat", "dog")


@pytest.mark.parametrize(
    ("feature", "values", "kind", "classes"),
    [
        ({"_type": "Image"}, [{"bytes": b"", "path": ""}], "picture", ()),
        ({"_type": "Audio", "sampling_rate": 16000}, [{"bytes": b"", "path": ""}], "sound", ()),
        (LABELS, [1], "class", ("cat", "dog")),
        ({"_type": "Sequence", "feature": LABELS}, [[0, 1]], "classes", ("cat", "dog")),
        ({"_type": "List", "feature": LABELS}, [[0, 1]], "classes", ("cat", "dog")),
        ([LABELS], [[0, 1]], "classes", ("cat", "dog")),
        ({"_type": "Value", "dtype": "int64"}, [1], "number", ()),
        ({"_type": "Array2D", "shape": [1, 2], "dtype": "float32"}, [[[1.0, 2.0]]], "array", ()),
        ({"_type": "Value", "dtype": "string"}, ["a"], "text", ()),
    ],
)
def test_features_in_the_schema_tell(feature: Any, values: list[Any], kind: Any, classes: tuple[str, ...]) -> None:
    assert columns_of(table({"c": values}, {"c": feature}).schema) == {"c": Column("c", kind, classes)}


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        (pa.struct({"bytes": pa.binary(), "path": pa.string()}), "picture"),
        (pa.large_binary(), "picture"),
        (pa.list_(pa.float32()), "array"),
        (pa.list_(pa.list_(pa.uint8(), 3)), "array"),
        (pa.fixed_shape_tensor(pa.float32(), (2, 2)), "array"),
        (pa.bool_(), "number"),
        (pa.dictionary(pa.int8(), pa.string()), "text"),
        (pa.list_(pa.string()), "other"),
        (pa.struct({"boxes": pa.list_(pa.float32())}), "other"),
        (pa.timestamp("s"), "other"),
    ],
)
def test_without_features_types_tell(type: pa.DataType, kind: str) -> None:
    assert columns_of(pa.schema({"c": type}))["c"].kind == kind


@pytest.mark.parametrize("metadata", [b"no JSON", b"{}", b'{"info": null}', b'{"info": {"features": [1]}}'])
def test_damaged_features_count_for_nothing(metadata: bytes) -> None:
    schema = pa.schema({"c": pa.int64()}, metadata={"huggingface": metadata})
    assert columns_of(schema) == {"c": Column("c", "number")}
