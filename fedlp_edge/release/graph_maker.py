"""This module makes graph files: it finds the weights of a model in the ONNX files that were exported of it.

Nothing is assumed about the exporter. Every tensor of the file is compared with the weights by its contents, in each of
the forms that ``graph_file`` can repeat; what is not found stays in the graph file as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedlp_edge.release.graph_file import GraphFile, RowRun, WeightRegion, encode_graph, region_bytes
from fedlp_edge.release.onnx_tensors import FLOAT16, OnnxTensor, onnx_tensors
from fedlp_edge.release.tensor_index import LEAST_BYTES, Array, TensorIndex, key_of
from fedlp_edge.wire.concat_buffer import mapped

WORTHWHILE = 0.5
"""Largest share of an ONNX file's bytes that a graph file may have; a larger one is not made."""

_NEIGHBOURS = 3  # representable numbers on both sides of a quotient among which a factor is looked for


class GraphMaker:
    """Makes graph files of the ONNX files of one model.

    Args:
        weights: Weights of the model, as devices hold them.
    """

    def __init__(self, weights: TensorIndex) -> None:
        self._weights = weights
        self._keys = weights.keys
        self._by_size: dict[int, list[bytes]] = {}
        for key in self._keys:
            self._by_size.setdefault(weights.values(key).size, []).append(key)
        self._factors: dict[bytes, Array] = {}

    def make(self, path: Path) -> bytes | None:
        """Returns the graph file of an ONNX file; None if it would hardly be smaller.

        Factors that are found in a float32 file are tried in the next ones in half precision, so the float32 files of a
        depth come first.

        Raises:
            ReleaseError: The file is no ONNX file.
            OSError: It cannot be read.
        """
        model = mapped(path)
        used: dict[bytes, int] = {}
        regions: list[WeightRegion] = []
        for tensor in onnx_tensors(model):
            if tensor.size >= LEAST_BYTES:
                regions += self._regions(model, tensor, used)
        rest, at = [], 0
        for region in regions:
            rest.append(model[at : region.offset])
            at = region.offset + region.size
        rest.append(model[at:])
        graph = encode_graph(GraphFile(1, len(model), tuple(used), tuple(regions), b"".join(rest)))
        return graph if len(graph) <= WORTHWHILE * len(model) else None

    def _regions(self, model: memoryview, tensor: OnnxTensor, used: dict[bytes, int]) -> list[WeightRegion]:
        data = model[tensor.offset : tensor.offset + tensor.size]
        half = tensor.type == FLOAT16
        same_size = self._by_size.get(tensor.size // (2 if half else 4), ())
        if not half and (key := key_of(data)) in self._weights:
            return [_whole(tensor, tensor.size // 4, [RowRun(_number(key, used), 0, 1)])]
        for key in same_size:
            if (found := self._transformed(data, tensor, key, used, half=half)) is not None:
                return [found]
        return [] if half else self._by_rows(data, tensor, used)

    def _transformed(
        self, data: memoryview, tensor: OnnxTensor, key: bytes, used: dict[bytes, int], *, half: bool
    ) -> WeightRegion | None:
        """Returns a region made of one whole tensor, if one of the forms gives the bytes."""
        values = self._weights.values(key)
        if half and _equal(values[None], data, half=True):
            return WeightRegion(tensor.offset, values.size, (RowRun(_number(key, used), 0, 1),), half=True)
        for rows, transposed in _layouts(tensor.shape):
            columns = values.size // rows
            if columns < 2:
                continue  # any vector is any other times a factor for each value, which saves nothing
            matrix = values.reshape(rows, columns)
            if transposed and _equal(matrix, data, transposed=True, half=half):
                run = RowRun(_number(key, used), 0, rows)
                return WeightRegion(tensor.offset, columns, (run,), transposed=True, half=half)
            factors = self._factors.get(key) if half else _factors(matrix, _matrix_of(data, matrix, transposed))
            if factors is None or len(factors) != rows:
                continue
            if _equal(matrix, data, factors, transposed=transposed, half=half):
                self._factors[key] = factors
                run = RowRun(_number(key, used), 0, rows)
                return WeightRegion(tensor.offset, columns, (run,), factors.tobytes(), transposed, half)
        return None

    def _by_rows(self, data: memoryview, tensor: OnnxTensor, used: dict[bytes, int]) -> list[WeightRegion]:
        """Returns a region of rows of several tensors, or of one in another order, as of the gates of an LSTM."""
        for rows, transposed in _layouts(tensor.shape):
            columns = tensor.size // 4 // rows
            if rows < 2 or columns * 4 < LEAST_BYTES:
                continue
            plain = np.frombuffer(data, "<f4")
            matrix = plain.reshape(columns, rows).T if transposed else plain.reshape(rows, columns)
            runs = self._runs(np.ascontiguousarray(matrix), used)
            if runs:
                return [_whole(tensor, columns, runs, transposed=transposed)]
        return []

    def _runs(self, matrix: Array, used: dict[bytes, int]) -> list[RowRun]:
        """Returns the rows of a matrix as runs of rows of weights; nothing if a row is not found."""
        places = self._rows(matrix.shape[1])
        found: list[tuple[bytes, int, int]] = []
        for row in matrix:
            place = places.get(row.tobytes())
            if place is None:
                return []
            key, number = place
            if found and found[-1][0] == key and found[-1][1] + found[-1][2] == number:
                found[-1] = (key, found[-1][1], found[-1][2] + 1)
            else:
                found.append((key, number, 1))
        return [RowRun(_number(key, used), first, count) for key, first, count in found]

    def _rows(self, columns: int) -> dict[bytes, tuple[bytes, int]]:
        """Returns which row of which tensor has given contents, among tensors with rows of that length."""
        places: dict[bytes, tuple[bytes, int]] = {}
        for key in self._keys:
            values = self._weights.values(key)
            if values.size % columns == 0 and values.size > columns:
                for number, row in enumerate(values.reshape(-1, columns)):
                    places.setdefault(row.tobytes(), (key, number))
        return places


def _whole(tensor: OnnxTensor, columns: int, runs: list[RowRun], *, transposed: bool = False) -> WeightRegion:
    return WeightRegion(tensor.offset, columns, tuple(runs), transposed=transposed)


def _number(key: bytes, used: dict[bytes, int]) -> int:
    return used.setdefault(key, len(used))


def _layouts(shape: tuple[int, ...]) -> Iterator[tuple[int, bool]]:
    """Yields the number of rows of the weights' matrix and whether it is transposed in the file."""
    lead = next((length for length in shape if length > 1), 0)  # an LSTM has its number of directions in front
    if lead:
        yield lead, False
    if len([length for length in shape if length > 1]) == 2:
        yield [length for length in shape if length > 1][1], True


def _matrix_of(data: memoryview, like: Array, transposed: bool) -> Array:
    plain = np.frombuffer(data, "<f4")
    return plain.reshape(like.shape[::-1]).T if transposed else plain.reshape(like.shape)


def _equal(
    matrix: Array, data: memoryview, factors: Array | None = None, *, transposed: bool = False, half: bool = False
) -> bool:
    return region_bytes(matrix, factors, transposed=transposed, half=half) == data


def _factors(matrix: Array, wanted: Array) -> Array | None:
    """Returns a factor for each row that gives the wanted values to the last bit; None if there is none."""
    largest = np.abs(matrix).argmax(axis=1)[:, None]
    with np.errstate(all="ignore"):
        quotients = np.take_along_axis(wanted, largest, 1).astype(np.float64) / np.take_along_axis(matrix, largest, 1)
        start = np.where(np.isfinite(quotients), quotients, 0).astype(np.float32)[:, 0]
        if not np.allclose(matrix[0] * start[0], wanted[0], rtol=1e-4, atol=0):
            return None  # another tensor of the same size
        best = np.full(len(matrix), np.nan, np.float32)
        for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
            candidate = start
            for _ in range(abs(step)):
                candidate = np.nextafter(candidate, np.float32(np.inf if step > 0 else -np.inf))
            exact = (matrix * candidate[:, None] == wanted).all(axis=1)
            best = np.where(exact & np.isnan(best), candidate, best)
    return None if np.isnan(best).any() else best
