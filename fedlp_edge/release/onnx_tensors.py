"""This module finds the tensors of an ONNX file and the bytes where they stand, without the onnx library.

An ONNX file is a protobuf message. Only the fields that lead to tensors are followed: initialisers of the graph, values
of constants, and the same in the branches of an ``If`` or ``Loop``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedlp_edge.errors import ReleaseError
from fedlp_edge.system.protobuf_fields import LENGTH, VARINT, fields, varint

FLOAT = 1
FLOAT16 = 10
"""Types of elements, as ONNX numbers them."""

_BYTES_OF = {FLOAT: 4, FLOAT16: 2}
_MAX_DEPTH = 64

# Numbers of the fields that are followed, by message.
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_FUNCTION_NODE = 7
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_RAW, _TENSOR_EXTERNAL = 1, 2, 4, 9, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LOCATION = b"location"


@dataclass(frozen=True)
class OnnxTensor:
    """The place of one tensor's values in an ONNX file, little-endian and row by row.

    Attributes:
        shape: Shape of the tensor.
        type: Type of the elements, ``FLOAT`` or ``FLOAT16``.
        offset: First byte of the values.
        size: Bytes of the values.
    """

    shape: tuple[int, ...]
    type: int
    offset: int
    size: int


def onnx_tensors(model: bytes | memoryview) -> list[OnnxTensor]:
    """Returns the tensors of floating-point numbers in an ONNX file, in the order of the file.

    Raises:
        ReleaseError: The bytes are no protobuf message.
    """
    view = memoryview(model)
    try:
        found = [tensor for start, stop in _tensors(view) if (tensor := _numbers_of(view, start, stop)) is not None]
    except (IndexError, ValueError) as error:
        raise ReleaseError(f"the ONNX file is damaged: {error}") from None
    return sorted(found, key=lambda tensor: tensor.offset)


def files_of_weights(model: bytes | memoryview) -> list[str]:
    """Returns the names of the files beside an ONNX file in which tensors of it stand, in alphabetical order.

    Raises:
        ReleaseError: The bytes are no protobuf message.
    """
    view = memoryview(model)
    try:
        return sorted({name for start, stop in _tensors(view) for name in _locations(view, start, stop)})
    except (IndexError, ValueError) as error:
        raise ReleaseError(f"the ONNX file is damaged: {error}") from None


def _tensors(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yields the first byte and the end of every tensor."""
    for number, start, stop in _messages(view, 0, len(view)):
        if number == _MODEL_GRAPH:
            yield from _walk_graph(view, start, stop, 0)
        elif number == _MODEL_FUNCTION:
            yield from _walk_nodes(view, start, stop, _FUNCTION_NODE, 0)


def _walk_graph(view: memoryview, start: int, stop: int, depth: int) -> Iterator[tuple[int, int]]:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs within graphs are too deep")
    for number, low, high in _messages(view, start, stop):
        if number == _GRAPH_INITIALIZER:
            yield low, high
    yield from _walk_nodes(view, start, stop, _GRAPH_NODE, depth)


def _walk_nodes(view: memoryview, start: int, stop: int, field: int, depth: int) -> Iterator[tuple[int, int]]:
    for number, low, high in _messages(view, start, stop):
        if number != field:
            continue
        for inner, first, last in _messages(view, low, high):
            if inner == _NODE_ATTRIBUTE:
                yield from _walk_attribute(view, first, last, depth)


def _walk_attribute(view: memoryview, start: int, stop: int, depth: int) -> Iterator[tuple[int, int]]:
    for number, low, high in _messages(view, start, stop):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            yield low, high
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            yield from _walk_graph(view, low, high, depth + 1)


def _locations(view: memoryview, start: int, stop: int) -> Iterator[str]:
    """Yields the name of the file in which a tensor stands, if it stands in one."""
    for number, low, high in _messages(view, start, stop):
        if number == _TENSOR_EXTERNAL:
            entry = {inner: bytes(view[first:last]) for inner, first, last in _messages(view, low, high)}
            if entry.get(_ENTRY_KEY) == _LOCATION:
                yield entry.get(_ENTRY_VALUE, b"").decode(errors="replace")


def _numbers_of(view: memoryview, start: int, stop: int) -> OnnxTensor | None:
    """Returns the place of a tensor of floating-point numbers; None for other tensors."""
    shape: list[int] = []
    kind, offset, size = 0, 0, -1
    for number, wire, low, high in fields(view, start, stop):
        if number == _TENSOR_DIMS and wire == VARINT:
            shape.append(varint(view, low)[0])
        elif number == _TENSOR_DIMS:
            at = low
            while at < high:
                value, at = varint(view, at)
                shape.append(value)
        elif number == _TENSOR_TYPE and wire == VARINT:
            kind = varint(view, low)[0]
        elif wire == LENGTH and (number == _TENSOR_RAW or (number == _TENSOR_FLOATS and size < 0)):
            offset, size = low, high - low
    count = 1
    for length in shape:
        count *= length
    if kind in _BYTES_OF and size == count * _BYTES_OF[kind]:
        return OnnxTensor(tuple(shape), kind, offset, size)
    return None


def _messages(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yields the number, first byte and end of every field that has a length."""
    for number, wire, low, high in fields(view, start, stop):
        if wire == LENGTH:
            yield number, low, high
