"""This module puts the normalisation of pictures into a graph, which then takes the bytes of pixels as they are.

Whoever uses the file needs no mean, deviation or scale, and cannot forget them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedlp_edge.learning.export.metadata import INPUT, OnnxMetadata

if TYPE_CHECKING:
    import onnx

_NORMALISED = "normalised_picture"  # no name that quantisation derives from "input"


def with_raw_input(model: onnx.ModelProto, onnx_metadata: OnnxMetadata) -> onnx.ModelProto:
    """Returns a model that takes pictures as uint8 [batch, channels, height, width] and normalises them itself.

    Args:
        model: Model that takes normalised pictures in float32.
        onnx_metadata: Metadata of the model, with scale, mean and standard deviation.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  # an extra of the coordinator

    raw = type(model)()
    raw.CopyFrom(model)
    graph = raw.graph
    _rename(graph, INPUT, _NORMALISED)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    shape = (-1, 1, 1)
    constants = {
        "picture_scale": np.float32(onnx_metadata.scale),
        "picture_mean": np.array(onnx_metadata.mean, dtype=np.float32).reshape(shape),
        "picture_std": np.array(onnx_metadata.std, dtype=np.float32).reshape(shape),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    # In the order of operations in which a data set is normalised, for the same rounding.
    nodes = [
        helper.make_node("Cast", [INPUT], ["picture_as_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["picture_as_float", "picture_scale"], ["scaled_picture"]),
        helper.make_node("Sub", ["scaled_picture", "picture_mean"], ["centred_picture"]),
        helper.make_node("Div", ["centred_picture", "picture_std"], [_NORMALISED]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    return raw


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Has every node of a graph, those of its branches included, take a tensor by another name."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(body, old, new)
