"""This module finds the tensors of an ONNX file and the bytes where they stand, without the onnx library.

An ONNX file is a protobuf message. Only the fields that lead to tensors are followed: initialisers of the graph, values
of constants, and the same in the branches of an ``If`` or ``Loop``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedlp_edge.errors import ReleaseError

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
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_RAW = 1, 2, 4, 9

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


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
    found: list[OnnxTensor] = []
    try:
        for number, start, stop in _messages(view, 0, len(view)):
            if number == _MODEL_GRAPH:
                _walk_graph(view, start, stop, found, 0)
            elif number == _MODEL_FUNCTION:
                _walk_nodes(view, start, stop, _FUNCTION_NODE, found, 0)
    except (IndexError, ValueError) as error:
        raise ReleaseError(f"the ONNX file is damaged: {error}") from None
    return sorted(found, key=lambda tensor: tensor.offset)


def _walk_graph(view: memoryview, start: int, stop: int, found: list[OnnxTensor], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs within graphs are too deep")
    for number, low, high in _messages(view, start, stop):
        if number == _GRAPH_INITIALIZER:
            _take_tensor(view, low, high, found)
    _walk_nodes(view, start, stop, _GRAPH_NODE, found, depth)


def _walk_nodes(view: memoryview, start: int, stop: int, field: int, found: list[OnnxTensor], depth: int) -> None:
    for number, low, high in _messages(view, start, stop):
        if number != field:
            continue
        for inner, first, last in _messages(view, low, high):
            if inner == _NODE_ATTRIBUTE:
                _walk_attribute(view, first, last, found, depth)


def _walk_attribute(view: memoryview, start: int, stop: int, found: list[OnnxTensor], depth: int) -> None:
    for number, low, high in _messages(view, start, stop):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _take_tensor(view, low, high, found)
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _walk_graph(view, low, high, found, depth + 1)


def _take_tensor(view: memoryview, start: int, stop: int, found: list[OnnxTensor]) -> None:
    shape: list[int] = []
    kind, offset, size = 0, 0, -1
    for number, wire, low, high in _fields(view, start, stop):
        if number == _TENSOR_DIMS and wire == _VARINT:
            shape.append(_varint(view, low)[0])
        elif number == _TENSOR_DIMS:
            at = low
            while at < high:
                value, at = _varint(view, at)
                shape.append(value)
        elif number == _TENSOR_TYPE and wire == _VARINT:
            kind = _varint(view, low)[0]
        elif wire == _LENGTH and (number == _TENSOR_RAW or (number == _TENSOR_FLOATS and size < 0)):
            offset, size = low, high - low
    count = 1
    for length in shape:
        count *= length
    if kind in _BYTES_OF and size == count * _BYTES_OF[kind]:
        found.append(OnnxTensor(tuple(shape), kind, offset, size))


def _messages(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yields the number, first byte and end of every field that has a length."""
    for number, wire, low, high in _fields(view, start, stop):
        if wire == _LENGTH:
            yield number, low, high


def _fields(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, wire type, first byte and end of every field of a message."""
    at = start
    while at < stop:
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            end = _varint(view, at)[1]
        elif wire == _LENGTH:
            size, at = _varint(view, at)
            end = at + size
        elif wire in (_FIXED32, _FIXED64):
            end = at + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"byte {at} begins no field")
        if end > stop:
            raise ValueError(f"a field ends at byte {end}, behind its message")
        yield number, wire, at, end
        at = end


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"byte {at} continues an endless number")
