"""This module defines the metadata of an exported ONNX file, stored in its ``metadata_props``.

They suffice to use the file years later without this project: how to prepare an input, what the outputs mean, and which
run and depth the model is from. The module imports neither PyTorch nor ONNX, because inference on a device has neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from fedlp_edge.errors import ExportError

INPUT = "input"
"""Name of the graph's input, [batch, ...]: float32, normalised, or uint8 pixels as they are."""

OUTPUT = "logits"
"""Name of the graph's output: float32 [batch, classes]."""

OPSET = 18
"""ONNX opset of the files; onnxruntime 1.14 and later runs it, which images of older boards contain."""

EXIT = "exit"
"""Name of the second output of a file with early exits: the depth at which it stopped, int64 [1]."""

PREFIX = "fedlp."
ANSWER = PREFIX + "answer"
MEAN = "mean"
"""First word of the property ``ANSWER`` of a file that answers with the mean of several exits."""

_TEXTS = ("model", "task", "input_type")
_LATER = ("task", "outputs", "units", "threshold", "input_type", "features", "confidence")
"""Properties that files of earlier versions lack."""

_Positive = Annotated[int, msgspec.Meta(ge=1)]


InputType = Literal["float32", "uint8"]
"""Types of an input: normalised numbers, or pictures as bytes that the graph normalises."""


class ScoreHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """How the scores of a model's answers are distributed.

    Attributes:
        edges: Upper edges of all bins but the last, ascending; a score on an edge is in the bin above it.
        shares: Share of the answers in each bin; they add up to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) + 1} shares")


class OnnxMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the properties that inference needs; each is stored as ``fedlp.NAME``, in JSON if it is no text.

    The model's input is ``(value * scale - mean) / std``, or of a graph that takes uint8, the value itself.

    Attributes:
        model: Specification from which the model was built.
        depth: Depth of the model, from 1.
        input_shape: Shape of one sample.
        classes: Names of the classes, labels or targets by number.
        scale: Factor from stored values to the unit of ``mean`` and ``std`` (1/255 for pixels from 0 to 255).
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        task: Task of the model, which says what its outputs mean.
        outputs: Names of the graph's outputs.
        units: Unit of each target of a regression; empty if unknown.
        threshold: Score from which a sample counts as an anomaly; None for other tasks.
        input_type: Type of the values that the graph takes: ``uint8`` for pixels that it normalises itself.
        features: Names of the columns of a table, which are the channels of a sample; empty for other samples.
        confidence: Distribution of the scores on the samples that the file was checked with; None if it is unknown.
    """

    model: str
    depth: _Positive
    input_shape: tuple[_Positive, ...]
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "classification"
    outputs: tuple[str, ...] = (OUTPUT,)
    units: tuple[str, ...] = ()
    threshold: float | None = None
    input_type: InputType = "float32"
    features: tuple[str, ...] = ()
    confidence: ScoreHistogram | None = None


def names_of_outputs(names: Sequence[str], outputs: int) -> tuple[str, ...]:
    """Returns a class name for each output of a model; classes without a name are called by their number.

    Args:
        names: Class names by class number; possibly fewer than there are outputs.
        outputs: Number of outputs.
    """
    word = "class " if names else ""  # among names, a bare number would look like a name
    return (*names[:outputs], *(f"{word}{number}" for number in range(len(names), outputs)))


def to_properties(onnx_metadata: OnnxMetadata, extra: Mapping[str, str]) -> dict[str, str]:
    """Returns all ``metadata_props`` of a file.

    Args:
        onnx_metadata: Properties that inference needs.
        extra: Further text properties, such as name and round of the run, that are stored as ``fedlp.NAME``.
    """
    properties = {PREFIX + key: value for key, value in extra.items()}
    for key in onnx_metadata.__struct_fields__:
        value = getattr(onnx_metadata, key)
        properties[PREFIX + key] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return properties


def from_properties(properties: Mapping[str, str], file: str) -> OnnxMetadata:
    """Parses the ``metadata_props`` of a file.

    Args:
        properties: Metadata of the ONNX model.
        file: Name of the file in messages.

    Raises:
        ExportError: The properties are not those of a model that FedLP Edge exported.
    """
    values: dict[str, object] = {}
    try:
        for key in OnnxMetadata.__struct_fields__:
            if key in _LATER and PREFIX + key not in properties:
                continue
            text = properties[PREFIX + key]
            values[key] = text if key in _TEXTS else msgspec.json.decode(text)
        return msgspec.convert(values, OnnxMetadata)
    except (KeyError, msgspec.MsgspecError):
        raise ExportError(
            f"{file} does not say how to use it: it was not exported by fedlp (fedlp export RUN)"
        ) from None
