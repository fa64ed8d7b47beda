"""This module reads what ``fedlp infer MODEL -`` gets on standard input: paths, numbers as JSON, or one file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inference import Sample, load_sample
from fedlp_edge.learning.export.inputs.json_samples import json_sample
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.system.portable.temporary_file import temporary_file

STANDARD_INPUT = Path("-")
"""What stands for standard input among the paths."""

_HEAD = 4096
_ARRAY = b"\x93NUMPY"
_TEXT_CONTROLS = frozenset(b"\t\n\r")


def read_standard_input(
    stream: io.BufferedReader | BinaryIO, onnx_metadata: OnnxMetadata
) -> Iterator[Path | Sample | DataError]:
    """Reads inputs until the stream ends; each line is passed on when it has come.

    Args:
        stream: Lines of text, each the path of a file or a folder, or the numbers of one sample as JSON, see
            `json_sample`; or one picture or ``.npy`` file.
        onnx_metadata: Metadata of the model.
    """
    head = stream.peek(_HEAD)[:_HEAD] if isinstance(stream, io.BufferedReader) else b""
    if head.startswith(_ARRAY) or not _is_text(head):
        yield _one_file(stream.read(), ".npy" if head.startswith(_ARRAY) else ".picture", onnx_metadata)
        return
    for number, line in enumerate(stream, 1):
        text = line.decode("utf-8", "surrogateescape").strip("\r\n")
        if text.lstrip().startswith(("[", "{")):
            yield _json(text, onnx_metadata, f"line {number}")
        elif number == 1 and _names_columns(text, onnx_metadata):
            yield DataError("standard input holds the rows of a table: save them as FILE.csv, and name that")
            return
        elif text.strip():
            yield Path(text)


def _names_columns(text: str, onnx_metadata: OnnxMetadata) -> bool:
    """Tells whether a line is the header of a table with a column that the model takes."""
    fields = {field.strip(' "\ufeff') for field in re.split(r"[,;\t|]", text)}
    return len(fields) > 1 and not fields.isdisjoint(onnx_metadata.features)


def _json(text: str, onnx_metadata: OnnxMetadata, name: str) -> Sample | DataError:
    try:
        return json_sample(text, onnx_metadata, name)
    except DataError as error:
        return error


def _one_file(content: bytes, suffix: str, onnx_metadata: OnnxMetadata) -> Sample | DataError:
    # The reader of pictures works on files, so that all pictures go the same way wherever they come from.
    with temporary_file(content, "fedlp-infer-", suffix) as path:
        try:
            return Sample("-", *load_sample(path, onnx_metadata))
        except DataError as error:
            return DataError(str(error).replace(str(path), "standard input"))


def _is_text(head: bytes) -> bool:
    return all(byte >= 0x20 or byte in _TEXT_CONTROLS for byte in head.split(b"\n")[0]) and not head.startswith(
        (b"\x89PNG", b"\xff\xd8\xff")
    )
