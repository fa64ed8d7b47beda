"""A graph file and the weights that a device has make the signed file, bit for bit, or nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.errors import UntrustedReleaseError
from fedlp_edge.release.graph_file import (
    GraphFile,
    RowRun,
    WeightRegion,
    assemble,
    decode_graph,
    encode_graph,
    missing_tensors,
    region_bytes,
)

MATRIX = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


class Kept:
    """One tensor, by the key ``w``."""

    def __contains__(self, key: bytes) -> bool:
        return key == b"w"

    def values(self, key: bytes) -> np.ndarray:
        return {b"w": MATRIX.ravel()}[key]


def graph(*regions: WeightRegion, rest: bytes = b"headtail", size: int | None = None) -> GraphFile:
    whole = len(rest) + sum(region.size for region in regions) if size is None else size
    return GraphFile(1, whole, (b"w",), regions, rest)


def written(path: Path, what: GraphFile) -> bytes:
    assemble(what, Kept(), path / "m.onnx")
    return (path / "m.onnx").read_bytes()


@pytest.mark.parametrize(
    ("region", "values"),
    [
        (WeightRegion(4, 6, (RowRun(0, 0, 1),)), MATRIX.tobytes()),
        (WeightRegion(4, 2, (RowRun(0, 0, 3),), transposed=True), MATRIX.T.tobytes()),
        (WeightRegion(4, 2, (RowRun(0, 2, 1), RowRun(0, 0, 1))), MATRIX[[2, 0]].tobytes()),
        (WeightRegion(4, 6, (RowRun(0, 0, 1),), half=True), MATRIX.astype("<f2").tobytes()),
        (
            WeightRegion(4, 2, (RowRun(0, 0, 3),), np.array([1, 0.5, 3], "<f4").tobytes()),
            (MATRIX * [[1], [0.5], [3]]).astype("<f4").tobytes(),
        ),
    ],
)
def test_region_is_made_of_rows(tmp_path: Path, region: WeightRegion, values: bytes) -> None:
    assert written(tmp_path, decode_graph(encode_graph(graph(region)))) == b"head" + values + b"tail"


@pytest.mark.parametrize(
    "wrong",
    [
        graph(WeightRegion(4, 6, (RowRun(0, 0, 1),)), size=5),
        graph(WeightRegion(9, 6, (RowRun(0, 0, 1),))),
        graph(WeightRegion(4, 6, (RowRun(0, 0, 1),)), WeightRegion(4, 6, (RowRun(0, 0, 1),))),
        graph(WeightRegion(4, 5, (RowRun(0, 0, 1),))),
        graph(WeightRegion(4, 6, (RowRun(1, 0, 1),))),
        graph(WeightRegion(4, 2, (RowRun(0, 2, 2),))),
        graph(WeightRegion(4, 2, (RowRun(0, 0, 3),), b"1234")),
        graph(WeightRegion(4, 2, (RowRun(0, 0, 3),), b"123")),
    ],
)
def test_malformed_graph_leaves_no_file(tmp_path: Path, wrong: GraphFile) -> None:
    with pytest.raises(UntrustedReleaseError):
        written(tmp_path, wrong)
    assert list(tmp_path.iterdir()) == []


def test_missing_tensors_are_counted() -> None:
    assert missing_tensors(GraphFile(1, 0, (b"w", b"v"), (), b""), Kept()) == 1


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_graph_file_or_refused(data: bytes) -> None:
    with pytest.raises(UntrustedReleaseError, match="malformed"):
        decode_graph(data)


def test_graph_file_of_a_later_version_is_refused() -> None:
    later = msgspec.structs.replace(graph(), format=2)
    with pytest.raises(UntrustedReleaseError, match="malformed"):
        decode_graph(encode_graph(later))


def test_half_precision_is_that_of_the_exporters_tools() -> None:
    from onnxruntime.transformers.float16 import convert_np_to_float16

    values = np.array([[0, -0.0, 1e-9, -1e-9, 1e6, -1e6, 0.1, np.inf, 6e-8]], np.float32)
    assert region_bytes(values, half=True) == convert_np_to_float16(values).tobytes()
