"""This module writes a graph with as few bytes as it takes, for files whose weights are small beside their graph.

In a file of 8-bit integers every layer has several constants and nodes of its own, whose long names repeat those of the
layers. Nothing that is computed depends on names, on what a reader of the file infers by itself, or on how often the
same constant is stored.
"""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fedlp_edge.learning.export.external.detached_weights import graphs_of
from fedlp_edge.learning.export.onnx import opset_of

if TYPE_CHECKING:
    import onnx

_WINDOWED = ("Conv", "MaxPool", "AveragePool")
"""Operators whose ``strides`` and ``dilations`` are ones, and whose ``pads`` are zeros, where they are not stated."""

_NAMED = ("Gather", "Slice")
"""Operators whose nodes have names: onnxruntime joins some of them to a Split, which it names after one of them, and
1.18 to 1.20 refuse a file where two such names are the same."""

_UNSTATED = {"strides": 1, "dilations": 1, "pads": 0}


def shortened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with a graph that computes the same, bit for bit, and is written in fewer bytes.

    Inputs and outputs keep their names. Other tensors get names of a letter or two, most nodes lose theirs; shapes that
    whoever reads the file infers, attributes with their default value and repeated constants are left out.

    Args:
        model: Model, whose branches may have graphs of their own. One with functions is returned as it is.
    """
    if model.functions:  # their bodies have scopes of their own
        return model
    short = type(model)()
    short.CopyFrom(model)
    for graph in graphs_of(short.graph):
        del graph.value_info[:]
        for described in (graph, *graph.node, *graph.initializer):
            described.ClearField("doc_string")
        for node in graph.node:
            node.ClearField("name")
            if node.domain in ("", "ai.onnx"):
                _drop_defaults(node, opset_of(model))
    _merge_constants(short.graph)
    interface = {value.name for value in (*short.graph.input, *short.graph.output)}
    _rename(short.graph, _short_names(short.graph, interface))
    for graph in graphs_of(short.graph):
        for node in graph.node:
            if node.op_type in _NAMED:
                node.name = node.output[0]
    return short


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    import onnx  # noqa: PLC0415  # an extra of the coordinator

    known = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset).attributes
    kept = []
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        default = known[attribute.name].default_value if attribute.name in known else None
        stated = default is None or not default.name or value != onnx.helper.get_attribute_value(default)
        if node.op_type in _WINDOWED and attribute.name in _UNSTATED:
            stated = any(number != _UNSTATED[attribute.name] for number in value)
        if stated:
            kept.append(attribute)
    if len(kept) < len(node.attribute):
        kept = [type(attribute).FromString(attribute.SerializeToString()) for attribute in kept]
        del node.attribute[:]
        node.attribute.extend(kept)


def _merge_constants(graph: onnx.GraphProto, seen_outside: Mapping[str, str] | None = None) -> None:
    """Has equal constants of one graph stored once; those of a branch stay in it, where they are used."""
    instead = dict(seen_outside or {})
    outputs = {output.name for output in graph.output}
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    kept = []
    for tensor in graph.initializer:
        content = (tensor.data_type, tuple(tensor.dims), _content(tensor))
        if tensor.name in outputs or (name := first.setdefault(content, tensor.name)) == tensor.name:
            kept.append(tensor)
        else:
            instead[tensor.name] = name
    if len(kept) < len(graph.initializer):
        kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _merge_constants(body, instead)


def _content(tensor: onnx.TensorProto) -> bytes:
    """Returns what tells the values of a tensor from others of its type and shape."""
    nameless = type(tensor)()
    nameless.CopyFrom(tensor)
    nameless.ClearField("name")
    return bytes(nameless.SerializeToString(deterministic=True))


def _short_names(graph: onnx.GraphProto, kept: Iterable[str]) -> dict[str, str]:
    """Returns a name for each tensor of a graph and of its branches, the shortest for those that are named most."""
    uses: Counter[str] = Counter()
    for each in graphs_of(graph):
        uses.update(tensor.name for tensor in each.initializer)
        uses.update(value.name for value in (*each.input, *each.output))
        for node in each.node:
            uses.update((*node.input, *node.output))
    taken = {"", *kept}
    fresh = (
        "".join(letters)
        for length in itertools.count(1)
        for letters in itertools.product(string.ascii_letters, repeat=length)
    )
    free = (name for name in fresh if name not in taken)
    return {name: next(free) for name, _ in uses.most_common() if name not in taken}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for each in graphs_of(graph):
        for named in (*each.initializer, *each.input, *each.output):
            named.name = names.get(named.name, named.name)
        for node in each.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
