"""Tensors are found in ONNX files without the onnx library."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.onnx_tensors import FLOAT, FLOAT16, files_of_weights, onnx_tensors


def model_of(*tensors: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    return helper.make_model(graph).SerializeToString()


def test_initialiser_is_found_with_its_place() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = model_of(numpy_helper.from_array(values, "w"))
    (found,) = onnx_tensors(data)
    assert (found.shape, found.type, found.size) == ((2, 3), FLOAT, 24)
    assert data[found.offset : found.offset + found.size] == values.tobytes()


def test_values_outside_of_raw_data_are_found_as_well() -> None:
    data = model_of(helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    (found,) = onnx_tensors(data)
    assert np.frombuffer(data[found.offset : found.offset + found.size], "<f4").tolist() == [1.0, 2.0, 3.0]


def test_constants_and_branches_are_searched() -> None:
    half = numpy_helper.from_array(np.ones(4, np.float16), "h")
    constant = helper.make_node("Constant", [], ["c"], value=half)
    branch = helper.make_graph([], "b", [], [], [numpy_helper.from_array(np.ones(2, np.float32), "w")])
    either = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    found = onnx_tensors(model_of(nodes=(constant, either)))
    assert [(tensor.type, tensor.shape) for tensor in found] == [(FLOAT16, (4,)), (FLOAT, (2,)), (FLOAT, (2,))]


def test_other_types_are_left_out() -> None:
    assert onnx_tensors(model_of(numpy_helper.from_array(np.ones(3, np.int64), "i"))) == []


def test_files_that_weights_stand_in_are_named() -> None:
    tensors = []
    for name, place in (("a", "z.data"), ("b", "a.data"), ("c", "z.data")):
        tensors.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location="EXTERNAL"))
        tensors[-1].external_data.add(key="location", value=place)
        tensors[-1].external_data.add(key="offset", value="4")
    branch = helper.make_graph([], "b", [], [], tensors[:2])
    either = helper.make_node("If", ["x"], ["y"], then_branch=branch)
    assert files_of_weights(model_of(tensors[2], nodes=(either,))) == ["a.data", "z.data"]
    assert onnx_tensors(model_of(*tensors)) == []
    assert files_of_weights(model_of(numpy_helper.from_array(np.ones(3, np.float32), "w"))) == []
    with pytest.raises(ReleaseError, match="the ONNX file is damaged"):
        files_of_weights(b"no model")


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_damaged_file_is_refused_or_read(data: st.DataObject) -> None:
    """Never an error of another kind, and never a place outside of the file."""
    whole = bytearray(model_of(numpy_helper.from_array(np.ones((4, 4), np.float32), "w")))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = onnx_tensors(cut)
    except ReleaseError:
        return
    assert all(0 <= tensor.offset <= tensor.offset + tensor.size <= len(cut) for tensor in found)


def test_number_without_an_end() -> None:
    with pytest.raises(ReleaseError, match="the ONNX file is damaged"):
        onnx_tensors(b"\xff" * 30)
