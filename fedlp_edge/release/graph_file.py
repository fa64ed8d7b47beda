"""This module defines the graph file: an ONNX file without its weights, and where a device has those already.

A device that trained a model holds its weights. A graph file has everything else of the ONNX file, byte by byte, and
says for each region of weights which tensors it is made of. The assembled file has to be the signed one to the last
bit, or it is not used; so whatever a graph file says can only fail, never change what is installed.

A region is a matrix of rows of tensors that the device has, one behind the other. Exporters change weights in ways that
can be repeated exactly: each row times a factor (a batch norm that was folded into a convolution), transposed, and
rounded to half precision, in this order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from fedlp_edge.errors import PeerError, UntrustedReleaseError
from fedlp_edge.system.files import replacing
from fedlp_edge.wire.compression import decompress

MAX_GRAPH_BYTES = 64 << 20
"""Bytes of the largest graph file, decompressed, which is held in memory."""

_LEVEL = 19
_LEAST_HALF = np.float32(5.96e-08)
_LARGEST_HALF = np.float32(65504)
_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class RowRun(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one tensor that stand one behind the other.

    Attributes:
        tensor: Number of the tensor in ``GraphFile.tensors``.
        first: First row.
        count: Number of rows.
    """

    tensor: _Natural
    first: _Natural
    count: Annotated[int, msgspec.Meta(ge=1)]


class WeightRegion(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of the ONNX file that are made of weights.

    Attributes:
        offset: First byte in the file.
        columns: Values in each row.
        runs: Rows, in their order.
        factors: A float32 for each row, by which it is multiplied; empty for none.
        transposed: Whether the matrix is written column by column.
        half: Whether the values are written in half precision.
    """

    offset: _Natural
    columns: Annotated[int, msgspec.Meta(ge=1)]
    runs: tuple[RowRun, ...]
    factors: bytes = b""
    transposed: bool = False
    half: bool = False

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return sum(run.count for run in self.runs) * self.columns * (2 if self.half else 4)


class GraphFile(msgspec.Struct, frozen=True, array_like=True):
    """An ONNX file without its weights.

    Attributes:
        format: Version of this structure.
        size: Bytes of the ONNX file.
        tensors: Keys of the tensors that a device must have, see ``tensor_index``.
        regions: Regions made of them, in the order of the file, without overlap.
        rest: All other bytes of the file, one behind the other.
    """

    format: Literal[1]
    size: _Natural
    tensors: tuple[bytes, ...]
    regions: tuple[WeightRegion, ...]
    rest: bytes


class KeptTensors(Protocol):
    """The interface to tensors that a machine has, by key."""

    def __contains__(self, key: bytes) -> bool:
        """Returns whether the tensor is there."""

    def values(self, key: bytes) -> npt.NDArray[np.float32]:
        """Returns its values in one dimension."""


def encode_graph(graph: GraphFile) -> bytes:
    """Encodes a graph file: one Zstandard frame."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(msgspec.msgpack.encode(graph))


def decode_graph(data: bytes) -> GraphFile:
    """Decodes a graph file.

    Raises:
        UntrustedReleaseError: The bytes are no graph file of this version, or one that is too large.
    """
    try:
        return msgspec.msgpack.decode(decompress(data, MAX_GRAPH_BYTES), type=GraphFile)
    except (PeerError, msgspec.DecodeError) as error:
        raise UntrustedReleaseError(f"the graph file is malformed: {error}") from None


def missing_tensors(graph: GraphFile, kept: KeptTensors) -> int:
    """Returns the number of tensors that a machine lacks."""
    return sum(key not in kept for key in graph.tensors)


def assemble(graph: GraphFile, kept: KeptTensors, path: Path) -> None:
    """Writes the ONNX file, region by region, so that a second copy of the weights never stands in memory.

    Args:
        graph: Graph file.
        kept: Tensors that this machine has.
        path: Path of the ONNX file, which is replaced atomically; the caller verifies its bytes.

    Raises:
        UntrustedReleaseError: The regions do not fit into the file or to the tensors, or a tensor is missing.
        OSError: The disk is full or failed.
    """
    rest = memoryview(graph.rest)
    at = taken = 0
    with replacing(path) as partial, partial.open("wb") as file:
        for region in graph.regions:
            gap = region.offset - at
            if gap < 0 or taken + gap > len(rest):
                raise UntrustedReleaseError("the graph file is malformed: its regions overlap or leave gaps")
            file.write(rest[taken : taken + gap])
            data = _region_bytes(region, graph.tensors, kept)
            file.write(data)
            taken += gap
            at = region.offset + len(data)
        file.write(rest[taken:])
        if at + len(rest) - taken != graph.size:
            raise UntrustedReleaseError("the graph file is malformed: its parts do not make the file")
        file.flush()


def _region_bytes(region: WeightRegion, tensors: tuple[bytes, ...], kept: KeptTensors) -> memoryview:
    try:
        parts = [
            kept.values(tensors[run.tensor]).reshape(-1, region.columns)[run.first : run.first + run.count]
            for run in region.runs
        ]
    except (KeyError, IndexError, ValueError):
        raise UntrustedReleaseError("the graph file asks for weights that this device does not have") from None
    if any(len(part) != run.count for part, run in zip(parts, region.runs, strict=True)):
        raise UntrustedReleaseError("the graph file asks for rows that a tensor does not have")
    matrix = parts[0] if len(parts) == 1 else np.concatenate(parts)
    factors = np.frombuffer(region.factors, "<f4") if len(region.factors) % 4 == 0 else np.zeros(0, "<f4")
    if region.factors and len(factors) != len(matrix):
        raise UntrustedReleaseError("the graph file has another number of factors than of rows")
    return region_bytes(matrix, factors if region.factors else None, transposed=region.transposed, half=region.half)


def region_bytes(
    matrix: npt.NDArray[np.float32],
    factors: npt.NDArray[np.float32] | None = None,
    *,
    transposed: bool = False,
    half: bool = False,
) -> memoryview:
    """Returns the bytes that a matrix of weights becomes in an ONNX file."""
    found: npt.NDArray[Any] = matrix
    if factors is not None:
        with np.errstate(all="ignore"):
            found = matrix * factors[:, None]
    if transposed:
        found = found.T
    if half:
        found = _halved(found)
    return np.ascontiguousarray(found).reshape(-1).data.cast("B")


def _halved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Rounds to half precision as onnxruntime's tools do: nothing but 0 becomes 0, and nothing finite infinite."""
    size = np.abs(values)
    held = np.where(size > 0, np.clip(size, _LEAST_HALF, _LARGEST_HALF), size)
    kept = np.where(np.isfinite(values), np.copysign(held, values), values)
    return kept.astype("<f2")
