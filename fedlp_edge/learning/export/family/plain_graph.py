"""This module writes a graph in the form that most readers of ONNX files know.

Exporters state what newer versions of an operator have and what holds anyway: that a recurrent layer has its time
first (``layout=0``), or that a shape without zeros would have them taken literally (``allowzero=1``). Readers made for
older versions refuse such an attribute by its name, Rockchip's converter every LSTM and GRU, and onnx's version
converter leaves it in a graph of a version without it. Tools also note the shape of one tensor twice, and a batch that
they do not know as one of 0 samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedlp_edge.learning.export.external.detached_weights import graphs_of

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 13
"""Opset whose attributes every reader is taken to know: the oldest that ``fedlp export`` writes."""

_EXTERNAL = 1  # TensorProto.EXTERNAL


def make_plain(model: onnx.ModelProto) -> None:
    """Changes a model in place to a form that more readers take, and that computes the same.

    * Attributes that operators got after opset 13 are left out where they state what holds without them.
    * Convolutions state their ``kernel_shape``, which is optional and which some compilers for accelerators want.
    * The shape of a tensor is noted once, and not where a dimension of it would be 0, or where the file holds it.

    Args:
        model: Model in the standard's own operators and others, with branches or without.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OLDEST_OPSET)
    constants: dict[str, onnx.TensorProto] = {}
    for graph in graphs_of(model.graph):  # a graph comes before its branches, which may take its constants
        constants.update((tensor.name, tensor) for tensor in graph.initializer)
        constants.update(_constants_of_nodes(graph))
        for node in graph.node:
            if node.domain in ("", "ai.onnx"):
                _drop_later_defaults(node, opset, constants)
                _state_kernel(node, constants)
        _note_shapes_once(graph)


def _constants_of_nodes(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }


def _drop_later_defaults(node: onnx.NodeProto, opset: int, constants: Mapping[str, onnx.TensorProto]) -> None:
    import onnx  # noqa: PLC0415  # an extra of the coordinator

    try:
        known = onnx.defs.get_schema(node.op_type, max_inclusive_version=OLDEST_OPSET).attributes
        now = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset).attributes
    except onnx.defs.SchemaError:  # an operator that is newer than the opset as a whole
        return
    for attribute in [attribute for attribute in node.attribute if attribute.name not in known]:
        default = now[attribute.name].default_value if attribute.name in now else None
        value = onnx.helper.get_attribute_value(attribute)
        stated = default is None or not default.name or value != onnx.helper.get_attribute_value(default)
        if attribute.name == "allowzero":
            stated = bool(value) and not _has_no_zero(constants.get(node.input[1]))
        if not stated:
            node.attribute.remove(attribute)


def _has_no_zero(shape: onnx.TensorProto | None) -> bool:
    from onnx import numpy_helper  # noqa: PLC0415  # an extra of the coordinator

    return shape is not None and shape.data_location != _EXTERNAL and bool(numpy_helper.to_array(shape).all())


def _state_kernel(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> None:
    import onnx  # noqa: PLC0415  # an extra of the coordinator

    if node.op_type not in ("Conv", "ConvTranspose") or any(entry.name == "kernel_shape" for entry in node.attribute):
        return
    if (weight := constants.get(node.input[1])) is not None:
        node.attribute.append(onnx.helper.make_attribute("kernel_shape", list(weight.dims)[2:]))


def _note_shapes_once(graph: onnx.GraphProto) -> None:
    held = {tensor.name for tensor in graph.initializer}
    noted: dict[str, onnx.ValueInfoProto] = {}
    for info in graph.value_info:
        dimensions = info.type.tensor_type.shape.dim
        empty = any(dimension.HasField("dim_value") and dimension.dim_value == 0 for dimension in dimensions)
        if info.name not in held and not empty:
            noted.setdefault(info.name, info)
    if len(noted) < len(graph.value_info):
        kept = [type(info).FromString(info.SerializeToString()) for info in noted.values()]
        del graph.value_info[:]
        graph.value_info.extend(kept)
