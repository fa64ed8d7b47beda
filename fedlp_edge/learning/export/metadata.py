"""What an exported ONNX file says about itself, in its ``metadata_props``.

Enough to use the file years later without this project: how to prepare an input, what the outputs mean,
and which run and depth it came from. Free of torch and ONNX, since inference on a device has neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from fedlp_edge.errors import ExportError

INPUT = "input"
"""Name of the graph's input: float32 [batch, ...], normalised."""

OUTPUT = "logits"
"""Name of the graph's output: float32 [batch, classes]."""

_PREFIX = "fedlp."
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class OnnxMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The properties that inference needs; each is JSON under ``fedlp.NAME``.

    Attributes:
        model: specification that it was built from.
        depth: which exit it is.
        input_shape: of one sample.
        classes: names of the outputs.
        scale: factor from stored values (pixels: 0 to 255, so 1/255) to the unit of mean and std.
        mean: per channel, or one value; the input is ``(value * scale - mean) / std``.
        std: likewise.
    """

    model: str
    depth: _Positive
    input_shape: tuple[_Positive, ...]
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def names_of_outputs(names: Sequence[str], outputs: int) -> tuple[str, ...]:
    """A name for each output of a model.

    Args:
        names: of the classes, as far as they have some.
        outputs: how many there are.
    """
    word = "class " if names else ""  # a number among names would look like one more name
    return (*names[:outputs], *(f"{word}{number}" for number in range(len(names), outputs)))


def to_properties(card: OnnxMetadata, extra: Mapping[str, str]) -> dict[str, str]:
    """All ``metadata_props`` of a file.

    Args:
        card: what inference needs.
        extra: strings of the run (its name, round ...), stored as they are under ``fedlp.NAME``.
    """
    properties = {_PREFIX + key: value for key, value in extra.items()}
    for key in card.__struct_fields__:
        value = getattr(card, key)
        properties[_PREFIX + key] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return properties


def from_properties(properties: Mapping[str, str], file: str) -> OnnxMetadata:
    """Reads a file's ``metadata_props``.

    Raises:
        ExportError: they are not those of a model that this project exported.
    """
    values: dict[str, object] = {}
    try:
        for key in OnnxMetadata.__struct_fields__:
            text = properties[_PREFIX + key]
            values[key] = text if key == "model" else msgspec.json.decode(text)
        return msgspec.convert(values, OnnxMetadata)
    except (KeyError, msgspec.MsgspecError):
        raise ExportError(
            f"{file} does not say how to use it: it was not exported by fedlp (fedlp export RUN)"
        ) from None
