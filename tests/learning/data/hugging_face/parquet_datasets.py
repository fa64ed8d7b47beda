"""This module writes small data sets as Hugging Face's ``datasets`` library stores them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from PIL import Image


def encoded(grey: int, size: int = 4) -> bytes:
    """Returns a PNG of one grey."""
    return encoded_pixels(np.full((size, size), grey, np.uint8))


def encoded_pixels(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Returns a grey PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(greys: Sequence[int | None]) -> list[dict[str, Any] | None]:
    """Returns fields as the feature ``Image`` stores them."""
    return [None if grey is None else {"bytes": encoded(grey), "path": None} for grey in greys]


def class_label(*names: str) -> dict[str, Any]:
    """Returns the feature of a column of class numbers."""
    return {"names": list(names), "_type": "ClassLabel"}


def table(columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any]) -> pyarrow.Table:
    """Returns a table with what ``datasets`` writes into its schema."""
    made = pyarrow.table({name: list(values) for name, values in columns.items()})
    metadata = {"huggingface": json.dumps({"info": {"features": dict(features)}})}
    return made.replace_schema_metadata(metadata)


def write_parquet(path: Path, made: pyarrow.Table) -> None:
    """Writes a table as the hub has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(made, path)


def write_arrow(path: Path, made: pyarrow.Table) -> None:
    """Writes a table as ``save_to_disk`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.ipc.new_stream(path, made.schema) as writer:
        writer.write_table(made)
