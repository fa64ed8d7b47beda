"""This module makes the samples that an exported model takes of JSON."""

from __future__ import annotations

import msgspec
import numpy as np

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.column_names import column_hint
from fedlp_edge.learning.export.inference import Sample, as_input
from fedlp_edge.learning.export.metadata import OnnxMetadata


def json_sample(text: str | bytes, onnx_metadata: OnnxMetadata, name: str) -> Sample:
    """Makes a sample of JSON.

    Args:
        text: The numbers of one sample in nested lists, or by the names of a table's columns as an object.
        onnx_metadata: Metadata of the model.
        name: Name of the sample in answers and messages.

    Raises:
        DataError: The text is no sample that the model takes.
    """
    try:
        decoded = msgspec.json.decode(text)
        if isinstance(decoded, dict):
            if missing := [column for column in onnx_metadata.features if column not in decoded]:
                hint = column_hint(missing[0], list(decoded))
                raise DataError(f"{name} has no column {missing[0]!r}, which the model takes{hint}")
            decoded = [decoded[column] for column in onnx_metadata.features]
        with np.errstate(over="ignore"):  # what float32 cannot hold is said below
            values = np.asarray(decoded, dtype=np.float32)
    except (msgspec.DecodeError, ValueError, TypeError):
        raise DataError(f"{name} is no JSON list of numbers of one sample") from None
    return Sample(name, as_input(values, onnx_metadata, name))
