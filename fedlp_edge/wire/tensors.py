"""This module writes named arrays as safetensors bytes, and reads them, without copying.

The code is our own instead of the safetensors library's for three reasons: arrays are views of the received bytes, and
are written without a copy; every limit is checked before memory is allocated; and every defect raises one kind of
error. The layout is that of the format: an 8-byte little-endian length, a JSON header, then the tensors' bytes without
gap or overlap.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import PeerError
from fedlp_edge.system.files import write_file
from fedlp_edge.wire.concat_buffer import mapped

Array = npt.NDArray[np.float32]
Blob = bytes | bytearray | memoryview

FLOAT32 = "F32"
FLOAT16 = "F16"
INT8 = "I8"
UINT8 = "U8"
# In the order in which the safetensors library lays tensors out, whose bytes this code must give.
_NUMPY: dict[str, np.dtype[Any]] = {
    FLOAT32: np.dtype("<f4"),
    FLOAT16: np.dtype("<f2"),
    INT8: np.dtype("i1"),
    UINT8: np.dtype("u1"),
}
WIDTH = {name: dtype.itemsize for name, dtype in _NUMPY.items()}
"""Bytes of one element, by safetensors type."""

_ORDER = list(_NUMPY)
_TYPE_OF = {dtype: name for name, dtype in _NUMPY.items()}

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_DIMENSIONS = 16
_LENGTH_BYTES = 8

_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entry of one tensor in a safetensors header.

    Attributes:
        dtype: Safetensors type, such as ``"F32"``.
        shape: Dimensions of the tensor.
        data_offsets: First byte and one past the last, counted from the end of the header.
    """

    dtype: str
    shape: Annotated[tuple[_Natural, ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    data_offsets: tuple[_Natural, _Natural]

    @property
    def nbytes(self) -> int:
        """Bytes between the two offsets."""
        return self.data_offsets[1] - self.data_offsets[0]


_entries = msgspec.json.Decoder(dict[str, msgspec.Raw])
_info = msgspec.json.Decoder(TensorInfo)


def pieces(tensors: Mapping[str, npt.NDArray[Any]]) -> list[bytes | memoryview]:
    """Returns the parts of a safetensors file without joining them: the header, then a view of every tensor.

    Args:
        tensors: Tensors by name, of the types that a fleet sends: float32, float16, int8 and uint8.

    Raises:
        ValueError: A tensor is of another type.
    """
    types = {name: _type_of(name, tensor.dtype) for name, tensor in tensors.items()}
    header: dict[str, TensorInfo] = {}
    bodies: list[bytes | memoryview] = []
    offset = 0
    for name in sorted(tensors, key=lambda name: (_ORDER.index(types[name]), name)):
        dtype, tensor = types[name], tensors[name]
        header[name] = TensorInfo(dtype, tensor.shape, (offset, offset + tensor.nbytes))
        offset += tensor.nbytes
        if tensor.size:  # an empty array cannot be viewed as bytes
            # np.ascontiguousarray would make a scalar one-dimensional.
            dense = np.require(tensor, dtype=_NUMPY[dtype], requirements="C")
            bodies.append(memoryview(dense.reshape(-1).data).cast("B"))
    text = msgspec.json.encode(header)
    # The safetensors library aligns the tensors by spaces behind the header, and this code must give the same bytes.
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return [len(text).to_bytes(_LENGTH_BYTES, "little"), text, *bodies]


def _type_of(name: str, dtype: np.dtype[Any]) -> str:
    if dtype not in _TYPE_OF:
        raise ValueError(f"{name} is {dtype}, which no fleet sends")
    return _TYPE_OF[dtype]


def pack(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Returns the bytes that the safetensors library would write, whatever the order of the mapping.

    Raises:
        ValueError: A tensor is of a type that no fleet sends, see ``pieces``.
    """
    return b"".join(pieces(tensors))


def pack_file(tensors: Mapping[str, Array], path: Path) -> None:
    """Writes ``pack(tensors)``, replacing ``path`` in one step that a power cut cannot halve.

    Raises:
        OSError: The disk is full or failed.
    """
    write_file(path, pieces(tensors))


def unpack(blob: Blob) -> dict[str, Array]:
    """Returns read-only views of the tensors in ``blob``, which must not change afterwards.

    Raises:
        PeerError: The bytes are not safetensors, or a tensor is not float32.
    """
    header, body = read_header(blob)
    return {name: view(name, info, body) for name, info in header.items()}


def unpack_file(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Returns read-only views of the tensors in a file, which is mapped into memory.

    Args:
        path: File, which must not be changed in place while the arrays are in use (it may be replaced).
        names: Names of the tensors to return, which the file must have; the file's other tensors may then be of any
            type. All tensors by default.

    Raises:
        PeerError: The file is not safetensors, a tensor is not float32, or a name is missing.
        OSError: The file cannot be read.
    """
    header, body = read_header(mapped(path))
    chosen = header if names is None else {name: header[name] for name in names if name in header}
    if names is not None and len(chosen) < len(names):
        raise PeerError(f"{path.name} lacks {sorted(set(names) - set(chosen))[0]}")
    return {name: view(name, info, body) for name, info in chosen.items()}


def read_header(blob: Blob, max_header_bytes: int = MAX_HEADER_BYTES) -> tuple[dict[str, TensorInfo], memoryview]:
    """Parses the header; returns its entries by tensor name, and the bytes behind it.

    The entries cover these bytes without gap or overlap. Types are not checked here.

    Raises:
        PeerError: The bytes are malformed, or the header is longer than ``max_header_bytes``.
    """
    whole = memoryview(blob).cast("B")
    length = int.from_bytes(whole[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + length
    if len(whole) < _LENGTH_BYTES or end > len(whole):
        raise PeerError(f"safetensors of {len(whole)} bytes is cut short")
    if length > max_header_bytes:
        raise PeerError(f"safetensors header of {length} bytes is over the limit of {max_header_bytes}")
    try:
        entries = _entries.decode(whole[_LENGTH_BYTES:end])
        entries.pop("__metadata__", None)
        header = {name: _info.decode(entry) for name, entry in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(f"malformed safetensors header: {error}") from None
    body = whole[end:]
    _check_layout(header, len(body))
    return header, body


def view(name: str, info: TensorInfo, body: memoryview) -> Array:
    """Returns one float32 tensor as a read-only view of the bytes behind the header.

    Raises:
        PeerError: The tensor is not float32, or its bytes do not fit its shape.
    """
    if info.dtype != FLOAT32:
        raise PeerError(f"tensor {name} is {info.dtype}, not {FLOAT32}")
    return view_any(name, info, body)


def view_any(name: str, info: TensorInfo, body: memoryview) -> npt.NDArray[Any]:
    """Returns one tensor of a type that a fleet sends (float32, float16, int8, uint8), as a read-only view.

    Raises:
        PeerError: The tensor is of another type, or its bytes do not fit its shape.
    """
    dtype = _NUMPY.get(info.dtype)
    if dtype is None:
        raise PeerError(f"tensor {name} is {info.dtype}, which no fleet sends")
    if info.nbytes != dtype.itemsize * math.prod(info.shape):
        raise PeerError(f"tensor {name} of shape {list(info.shape)} has {info.nbytes} bytes")
    start, stop = info.data_offsets
    try:
        array: npt.NDArray[Any] = np.frombuffer(body[start:stop], dtype=dtype).reshape(info.shape)
    except ValueError as error:  # an empty tensor whose other dimensions are too large for numpy
        raise PeerError(f"tensor {name} has an impossible shape: {error}") from None
    array.flags.writeable = False
    return array


def _check_layout(header: Mapping[str, TensorInfo], nbytes: int) -> None:
    expected = 0
    for start, stop in sorted(info.data_offsets for info in header.values()):
        if start != expected or stop < start:
            raise PeerError(f"safetensors with a gap, an overlap or a negative size at byte {min(start, expected)}")
        expected = stop
    if expected != nbytes:
        raise PeerError(f"safetensors describes {expected} bytes but holds {nbytes}")
