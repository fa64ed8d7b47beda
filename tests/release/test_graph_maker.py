"""Weights are found in exported files, in each form that an exporter gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fedlp_edge.release.graph_file import assemble, decode_graph
from fedlp_edge.release.graph_maker import GraphMaker
from fedlp_edge.release.tensor_index import TensorIndex
from fedlp_edge.wire.tensors import pack

DRAW = np.random.default_rng(1)
KERNEL = DRAW.standard_normal((32, 16, 3, 3)).astype(np.float32)
LINEAR = DRAW.standard_normal((96, 80)).astype(np.float32)
GATES = DRAW.standard_normal((4 * 16, 64)).astype(np.float32)
FACTORS = (DRAW.random(32) + 0.5).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> TensorIndex:
    path = tmp_path / "unit"
    path.write_bytes(pack({"kernel": KERNEL, "linear": LINEAR, "gates": GATES}))
    return TensorIndex.of([path])


def saved(path: Path, *arrays: np.ndarray) -> Path:
    tensors = [numpy_helper.from_array(array, f"t{number}") for number, array in enumerate(arrays)]
    file = path / "m.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), str(file))
    return file


FOLDED = KERNEL * FACTORS[:, None, None, None]
SEVERAL = np.concatenate([LINEAR, LINEAR[:8]])
REORDERED = np.concatenate([GATES[0:16], GATES[48:64], GATES[16:32], GATES[32:48]])[None]


@pytest.mark.parametrize(
    "array",
    [
        KERNEL,
        LINEAR.T.copy(),
        FOLDED,
        REORDERED,
        LINEAR[:32],
        np.concatenate([LINEAR, LINEAR[:8]]),
        LINEAR.astype("f2"),
    ],
    ids=["as it is", "transposed", "batch norm folded", "gates reordered", "a part", "several parts", "half"],
)
def test_weights_stay_out_of_the_graph_file(tmp_path: Path, weights: TensorIndex, array: np.ndarray) -> None:
    file = saved(tmp_path, array, np.ones(100, np.float32))
    made = GraphMaker(weights).make(file)
    assert made is not None
    assert len(made) < 0.05 * array.nbytes + 200
    assemble(decode_graph(made), weights, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_factors_of_the_float32_file_serve_for_that_in_half_precision(tmp_path: Path, weights: TensorIndex) -> None:
    maker = GraphMaker(weights)
    half = FOLDED.astype(np.float16)
    assert maker.make(saved(tmp_path, half)) is None
    maker.make(saved(tmp_path, FOLDED))
    file = saved(tmp_path, half)
    made = maker.make(file)
    assert made is not None
    assemble(decode_graph(made), weights, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_no_graph_file_of_other_weights(tmp_path: Path, weights: TensorIndex) -> None:
    assert GraphMaker(weights).make(saved(tmp_path, KERNEL + 1, FOLDED + 1)) is None


def test_vector_is_not_made_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "norm"
    path.write_bytes(pack({"kernel": KERNEL, "norm": np.ones(80, np.float32)}))
    made = GraphMaker(TensorIndex.of([path])).make(saved(tmp_path, KERNEL, LINEAR[0]))
    assert made is not None
    assert len(decode_graph(made).tensors) == 1, "what a device need not hold is not asked for"
